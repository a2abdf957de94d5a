-- Decides whether the caller may do what the request asks for, by the token that `jwt_authn` has verified before.
--
-- The claim `streams`, or the one that the configuration names in its place, is a list of texts, each an access and
-- what it is for:
--
--   "read:shared/"      reads every stream whose name begins with `shared/`
--   "write:runs/42"     writes the stream `runs/42`, and no other one
--   "read:*"            reads every stream
--
-- `read` is for GET and HEAD, `write` for PUT, POST and DELETE; neither includes the other. What cannot be decided is
-- refused. A script that fails lets a request pass in Envoy, so nothing here may raise past `envoy_on_request`, and the
-- filter behind this one passes only what this one has marked. docs/edge.md has the reasons.

-- The server's `http.stream_base_path` and a slash. The routes of the configuration name it too.
local BASE = "/v1/stream/"

local ACCESS = { GET = "read", HEAD = "read", PUT = "write", POST = "write", DELETE = "write" }

-- The server's own calls, by their methods. `prefix`: the query names the streams. `all`: the body does, which is not seen
-- here, or nothing does, so the caller has to be allowed all of them. `none`: it is about none.
local READS_ALL = { GET = "all", HEAD = "all" }
local CALLS = {
  streams = { GET = "prefix", HEAD = "prefix" },
  changes = { GET = "prefix", HEAD = "prefix" },
  export = { GET = "prefix", HEAD = "prefix" },
  trim = { POST = "all" },
  import = { POST = "all" },
  queues = READS_ALL,
  schedules = READS_ALL,
  ["openapi.json"] = { GET = "none", HEAD = "none" },
}

-- Calls whose paths name a queue or a run, and behind it what is asked of it. A claim shows what is to be done.
local WRITE, READ_AND_WRITE = { "write" }, { "read", "write" }
local ASKED_OF = {
  queues = {
    ["/enqueue"] = WRITE,
    ["/claim"] = READ_AND_WRITE,
    ["/pause"] = WRITE,
    ["/resume"] = WRITE,
    ["/purge"] = WRITE,
    ["/dead/redrive"] = WRITE,
  },
  runs = {
    ["/heartbeat"] = WRITE,
    ["/complete"] = WRITE,
    ["/fail"] = WRITE,
    ["/release"] = WRITE,
    ["/cancel"] = WRITE,
    ["/retry"] = WRITE,
  },
}

local SUBJECT_BYTES_MAX = 256
local ENTRIES_MAX = 256

-- A refusal is raised as a table, which tells it from a mistake of this script.
local function refuse(status, detail)
  error({ status = status, detail = detail }, 0)
end

-- Undoes percent-encoding, as the server does, and refuses what it would refuse or what has two readings.
local function decoded(text, what)
  if text:gsub("%%%x%x", ""):find("%", 1, true) then
    refuse("400", what .. " has a % without two hexadecimal digits behind it; encode a % as %25.")
  end
  return (text:gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

-- The name of a stream, from a path below the base.
local function stream_name(path, what)
  if path:find("[^A-Za-z0-9%-._~!$&'()*+,;=:@%%/]") then
    refuse("400", what .. " has a character that does not belong in a path; percent-encode it.")
  end
  if path:find("%%2[Ff]") or path:find("%%5[Cc]") then
    refuse("400", what .. " has an encoded slash or backslash; write slashes as they are.")
  end
  local name = decoded(path, what)
  if name:find("%c") then
    refuse("400", what .. " has a control character; remove it.")
  end
  local segments = "/" .. name .. "/"
  if segments:find("//", 1, true) then
    refuse("400", what .. " has an empty segment; remove the doubled, leading or trailing slash.")
  end
  if segments:find("/./", 1, true) or segments:find("/../", 1, true) then
    refuse("400", what .. " has a `.` or `..` segment; write the path out.")
  end
  if segments:find("/__ds/", 1, true) == 1 then
    refuse("403", what .. " names one of the server's own paths, and no stream.")
  end
  return name
end

-- The streams that a call of the server's own is about: a prefix of their names; empty for all.
local function query_prefix(query)
  local prefix
  for pair in query:gmatch("[^&]+") do
    local key, value = pair:match("^([^=]*)=?(.*)$")
    if key == "prefix" then
      if prefix then
        refuse("400", "The query has `prefix` more than once; give it once.")
      end
      prefix = decoded(value:gsub("+", " "), "The query's `prefix`")
    end
  end
  return prefix or ""
end

-- Whether the claim has an entry of that access which `covers` accepts.
local function granted(claim, access, covers)
  for index = 1, ENTRIES_MAX do
    local entry = claim[index]
    if entry == nil then
      return false
    end
    if type(entry) == "string" then
      local kind, target = entry:match("^(%l+):(.+)$")
      if kind == access and (target == "*" or covers(target)) then
        return true
      end
    end
  end
  return false
end

-- Whether `text` begins with the target of an entry, which ends at a segment's end.
local function is_below(text, target)
  return target:sub(-1) == "/" and text:sub(1, #target) == target
end

local function demand_stream(claim, access, name)
  local allowed = granted(claim, access, function(target)
    return target == name or is_below(name, target)
  end)
  if not allowed then
    refuse("403", "The token does not allow to " .. access .. " this stream.")
  end
end

local function demand_all(claim, access)
  if not granted(claim, access, function() return false end) then
    refuse("403", "This call may be about any stream, which the edge cannot tell; it needs `" .. access .. ":*`.")
  end
end

local function refuse_method(method)
  refuse("405", "This path does not know the method " .. method .. ".")
end

-- A call on a queue or a run that the path names, as the server takes it apart: from its end, before anything is decoded.
local function demand_job_call(claim, method, kind, path)
  local what = "The name in the path"
  if method == "POST" then
    for operation, accesses in pairs(ASKED_OF[kind]) do
      if #path > #operation and path:sub(-#operation) == operation then
        local name = stream_name(path:sub(1, -#operation - 1), what)
        for _, access in ipairs(accesses) do
          demand_stream(claim, access, name)
        end
        return
      end
    end
    refuse_method(method)
  elseif kind == "queues" and method == "PUT" then
    -- The body names streams too: that of dead letters, and what the names of runs begin with.
    stream_name(path, what)
    demand_all(claim, "write")
  elseif kind == "queues" and method == "DELETE" then
    demand_stream(claim, "write", stream_name(path, what))
  elseif ACCESS[method] == "read" then
    if kind == "queues" and #path > 5 and path:sub(-5) == "/dead" then
      path = path:sub(1, -6)
    end
    demand_stream(claim, "read", stream_name(path, what))
  else
    refuse_method(method)
  end
end

local function demand_call(claim, method, call, query)
  local kind, path = call:match("^(%l+)/(.*)$")
  if kind and ASKED_OF[kind] then
    return demand_job_call(claim, method, kind, path)
  end
  if kind == "schedules" then
    -- A schedule names its stream in its body.
    stream_name(path, "The schedule's id")
    if method == "POST" then
      refuse_method(method)
    end
    return demand_all(claim, ACCESS[method])
  end
  local known = CALLS[call]
  if not known then
    refuse("403", "The edge does not know this path below __ds/, and so cannot decide who may use it.")
  end
  local named_by = known[method]
  if not named_by then
    refuse_method(method)
  elseif named_by == "all" then
    demand_all(claim, ACCESS[method])
  elseif named_by == "prefix" then
    local prefix = query_prefix(query)
    if not granted(claim, "read", function(target) return is_below(prefix, target) end) then
      refuse("403", "The token does not allow to read all streams with this `prefix`; name a longer one.")
    end
  end
end

-- A fork shows what its source holds, so its maker must be allowed to read that.
local function demand_source(claim, headers)
  local count = headers:getNumValues("stream-forked-from")
  if count == 0 then
    return
  end
  if count > 1 then
    refuse("400", "Stream-Forked-From is given more than once; give it once.")
  end
  local source = headers:get("stream-forked-from")
  if source:sub(1, #BASE) ~= BASE then
    refuse("400", "Stream-Forked-From is no path of a stream; it begins with " .. BASE .. ".")
  end
  local name = stream_name(source:sub(#BASE + 1), "Stream-Forked-From")
  demand_stream(claim, "read", name)
end

-- What the server is told of the caller.
local function identity(token)
  local subject, expires = token.sub, token.exp
  if type(subject) ~= "string" or subject == "" or #subject > SUBJECT_BYTES_MAX or subject:find("[^!-~]") then
    refuse("403", "The token's `sub` has to be 1 to 256 visible ASCII characters, without spaces.")
  end
  if type(expires) ~= "number" or expires < 0 or expires > 2 ^ 53 then
    refuse("403", "The token has no `exp` that is a time in seconds.")
  end
  return subject, string.format("%d", math.floor(expires))
end

local function decide(handle)
  local headers = handle:headers()
  local method, target = headers:get(":method"), headers:get(":path")
  -- What a browser asks before a request. It carries no token and touches no stream.
  if method == "OPTIONS" then
    return
  end
  local access = ACCESS[method]
  if not access then
    refuse("405", "The method " .. method .. " is not for streams; use GET, HEAD, PUT, POST or DELETE.")
  end
  local path, query = target:match("^([^?]*)%??(.*)$")
  if path:sub(1, #BASE) ~= BASE then
    refuse("404", "Streams are below " .. BASE .. ".")
  end
  local verified = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn")
  local token = verified and verified.payload
  if type(token) ~= "table" then
    refuse("401", "There is no token.")
  end
  local subject, deadline = identity(token)
  local name = handle:metadata():get("streams_claim")
  local claim = token[name]
  if type(claim) ~= "table" then
    refuse("403", "The token has no claim `" .. name .. "`, a list such as [\"read:shared/\",\"write:runs/\"].")
  end

  local below = path:sub(#BASE + 1)
  if below:sub(1, 5) == "__ds/" then
    demand_call(claim, method, below:sub(6), query)
  else
    demand_stream(claim, access, stream_name(below, "The stream's name"))
    if method == "PUT" then
      demand_source(claim, headers)
    end
  end
  headers:replace("x-tailwater-subject", subject)
  headers:replace("x-tailwater-deadline", deadline)
end

function envoy_on_request(handle)
  local decided, refusal = pcall(decide, handle)
  if decided then
    handle:streamInfo():dynamicMetadata():set("tailwater.edge", "authorized", true)
  elseif type(refusal) == "table" then
    handle:respond({ [":status"] = refusal.status }, refusal.detail)
  else
    handle:logErr("authorize.lua failed: " .. tostring(refusal))
    handle:respond({ [":status"] = "500" }, "The edge could not decide.")
  end
end
