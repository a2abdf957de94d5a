# shellcheck shell=bash
# Docker Swarm: one stack, whose secrets and configurations have versions, since Swarm cannot change either.

# Names of what this rollout uses, which stays however old it is.
versions=()
had_before=0
readonly SWARM_SERVICES=(tailwater edge mirror)
# A task of a first version that has failed so often will not run.
readonly SWARM_FAILURES_MAX=3
# For so long, in intervals of the health check, a first version may take to fetch its images and to start: 15 minutes with 5 s.
readonly SWARM_FIRST_ATTEMPTS=180

check_swarm() {
    needed SWARM_STACK SWARM_NODE SWARM_CONTEXT SWARM_EDGE_SUBNET
    if [ -n "$SWARM_STACK" ] && ! [[ $SWARM_STACK =~ ^[a-z][a-z0-9-]{0,30}$ ]]; then
        mistake "SWARM_STACK is '$SWARM_STACK'; use up to 31 small letters, digits and -"
    fi
}

swarm() {
    docker --context "$SWARM_CONTEXT" "$@"
}

prepare_swarm() {
    # The volume is where the label is, and nowhere else.
    run swarm node update --label-add "tailwater.streams=$SWARM_STACK" "$SWARM_NODE"
    keep_version secret server_certificate SERVER_CERTIFICATE_VERSION "$SERVER_CERTIFICATE_FILE"
    keep_version secret server_key SERVER_KEY_VERSION "$SERVER_KEY_FILE"
    keep_version secret server_ca SERVER_CA_VERSION "$SERVER_CA_FILE"
    keep_version secret edge_certificate EDGE_CERTIFICATE_VERSION "$EDGE_CERTIFICATE_FILE"
    keep_version secret edge_key EDGE_KEY_VERSION "$EDGE_CERTIFICATE_KEY_FILE"
    # The stack names this one in any case; without a mirror nobody gets it.
    if [ -n "$MIRROR_STREAMS" ]; then
        keep_version secret mirror_postgres_url MIRROR_POSTGRES_URL_VERSION "$MIRROR_POSTGRES_URL_FILE"
        export MIRROR_REPLICAS=2
    else
        keep_version secret mirror_postgres_url MIRROR_POSTGRES_URL_VERSION <(printf 'none')
        export MIRROR_REPLICAS=0
    fi
    keep_version config edge_envoy EDGE_ENVOY_VERSION "$generated/edge/envoy.yaml"
    keep_version config edge_authorize EDGE_AUTHORIZE_VERSION "$generated/edge/authorize.lua"
    keep_version config edge_certificate EDGE_CERTIFICATE_FILES_VERSION "$generated/edge/certificate.production.yaml"
}

# Makes a secret or configuration of a file, unless there is one with the same content, and puts its name into a variable.
# The name ends in a part of the checksum, so that the same content has the same name.
keep_version() {
    local kind=$1 base=$2 variable=$3 file=$4 content name
    content=$generated/version
    cat "$file" >"$content"
    name=${SWARM_STACK}_${base}_$(sha256sum <"$content" | cut -c 1-12)
    export "$variable=$name"
    versions+=("$name")
    if [ "${DRY_RUN:-}" = 1 ]; then
        say "would make the $kind $name, unless it is there"
    elif ! swarm "$kind" inspect "$name" >/dev/null 2>&1; then
        run_with_input "$content" swarm "$kind" create "$name" -
    fi
    rm -f "$content"
}

roll_out_swarm() {
    export DEPLOY_IMAGE DEPLOY_TAG MIRROR_STREAMS SERVER_NAME SERVER_CORS_ORIGINS SWARM_STACK SWARM_EDGE_SUBNET
    if [ -n "$(swarm stack services --quiet "$SWARM_STACK" 2>/dev/null)" ]; then
        had_before=1
    fi
    # Docker waits for ever for tasks that fail if there is no version before, which Swarm could take them back to.
    local detach=false
    [ "$had_before" = 1 ] || detach=true
    run swarm stack deploy --compose-file "$here/swarm/stack.yml" "--detach=$detach" --with-registry-auth "$SWARM_STACK" ||
        return 1
    if [ "${DRY_RUN:-}" = 1 ]; then
        return 0
    elif [ "$had_before" = 1 ]; then
        is_not_taken_back
    else
        runs_for_the_first_time
    fi
}

# Waits until all tasks of a first version run, and no longer than until one fails again and again.
runs_for_the_first_time() {
    local attempt services waiting='' failed
    for ((attempt = 1; attempt <= SWARM_FIRST_ATTEMPTS; attempt++)); do
        services=$(swarm stack services --format '{{.Name}} {{.Replicas}}' "$SWARM_STACK") || return 1
        waiting=$(awk '{ split($2, tasks, "/") } tasks[1] != tasks[2]' <<<"$services")
        if [ -n "$services" ] && [ -z "$waiting" ]; then
            return 0
        fi
        failed=$(failing_task) || return 1
        if [ -n "$failed" ]; then
            echo "deploy/deploy: a task has failed $SWARM_FAILURES_MAX times: $failed" >&2
            tell_where_to_look
            return 1
        fi
        sleep "$HEALTHCHECK_INTERVAL_SECS"
    done
    waiting=${waiting:-none is there}
    echo "deploy/deploy: these services do not have all their tasks after $SWARM_FIRST_ATTEMPTS looks: ${waiting//$'\n'/, }" >&2
    tell_where_to_look
    return 1
}

# The first task that has failed too often, with what Swarm says of it; nothing if there is none.
failing_task() {
    swarm stack ps --no-trunc --filter desired-state=shutdown --format '{{.Name}}|{{.CurrentState}}|{{.Error}}' "$SWARM_STACK" |
        awk -F '|' -v max="$SWARM_FAILURES_MAX" '
            $2 ~ /^(Failed|Rejected)/ && ++failures[$1] == max && !told { told = 1; print $1 ": " $2 ": " $3 }'
}

tell_where_to_look() {
    local docker="docker --context $SWARM_CONTEXT"
    cat >&2 <<TEXT
deploy/deploy: the last lines of a program say why, and docs/production.md (exit codes) what to do:
    $docker service logs --tail 20 ${SWARM_STACK}_tailwater        and _edge, _mirror
    $docker stack ps --no-trunc $SWARM_STACK                what Swarm says: no such image, no suitable node, ...
    $docker stack rm $SWARM_STACK                           ends the attempts; the volume and the secrets stay
TEXT
}

# Swarm itself takes a service back whose tasks fail, and says that all went well.
is_not_taken_back() {
    local service state
    for service in "${SWARM_SERVICES[@]}"; do
        state=$(of_service "$service" '{{with .UpdateStatus}}{{.State}}{{end}}') || return 1
        case $state in
            *rollback* | *paused*)
                echo "deploy/deploy: Swarm has not updated ${SWARM_STACK}_$service, or has taken it back: $state" >&2
                return 1
                ;;
        esac
    done
}

of_service() {
    swarm service inspect --format "$2" "${SWARM_STACK}_$1"
}

# Each service to what it was before this rollout, which Swarm keeps, but for those that it has taken back already.
roll_back_swarm() {
    if [ "$had_before" = 0 ]; then
        echo 'deploy/deploy: nothing ran before' >&2
        return 1
    fi
    local service result=0
    for service in "${SWARM_SERVICES[@]}"; do
        if [ "$(of_service "$service" '{{if .PreviousSpec}}yes{{else}}no{{end}}')" = no ]; then
            say "${SWARM_STACK}_$service is what it was before"
        else
            run swarm service rollback --detach=false "${SWARM_STACK}_$service" || result=1
        fi
    done
    return "$result"
}

prune_swarm() {
    if [ "${DRY_RUN:-}" = 1 ]; then
        say "would remove old secrets and configurations, but for the newest $SECRET_KEEP_VERSIONS of each and those in use"
        return
    fi
    local base
    for base in server_certificate server_key server_ca edge_certificate edge_key mirror_postgres_url; do
        prune_versions secret "$base"
    done
    for base in edge_envoy edge_authorize edge_certificate; do
        prune_versions config "$base"
    done
}

# Removes old versions of one secret or configuration. Those that a service uses stay, and those that it would use if it
# were rolled back.
prune_versions() {
    local kind=$1 base=$2 name kept=0
    while read -r name; do
        kept=$((kept + 1))
        if [ "$kept" -le "$SECRET_KEEP_VERSIONS" ] || is_in_use "$kind" "$name"; then
            continue
        fi
        run swarm "$kind" rm "$name" || echo "deploy/deploy: the $kind $name could not be removed" >&2
    done < <(versions_of "$kind" "$base")
}

# All versions of it, the newest first.
versions_of() {
    local kind=$1 ids
    ids=$(swarm "$kind" ls --quiet --filter "name=${SWARM_STACK}_$2_")
    [ -n "$ids" ] || return 0
    # shellcheck disable=SC2086 # Identifiers have no spaces.
    swarm "$kind" inspect --format '{{.CreatedAt}} {{.Spec.Name}}' $ids | sort --reverse | awk '{ print $NF }' |
        grep -E "^${SWARM_STACK}_$2_[0-9a-f]{12}\$"
}

# If that cannot be found out, it is.
is_in_use() {
    local kind=$1 name=$2 version services used
    for version in "${versions[@]}"; do
        [ "$version" = "$name" ] && return 0
    done
    services=$(swarm service ls --quiet) || return 0
    [ -n "$services" ] || return 1
    local list=Secrets field=SecretName
    [ "$kind" = secret ] || list=Configs field=ConfigName
    # shellcheck disable=SC2086 # Identifiers have no spaces.
    used=$(swarm service inspect --format "{{range .Spec.TaskTemplate.ContainerSpec.$list}}{{.$field}}
{{end}}{{with .PreviousSpec}}{{range .TaskTemplate.ContainerSpec.$list}}{{.$field}}
{{end}}{{end}}" $services) || return 0
    grep -Fx "$name" >/dev/null <<<"$used"
}
