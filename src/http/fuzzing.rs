//! What fuzz targets may call: the readers of what comes from a socket. Not part of the crate's interface.

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tailwater_storage::stream::{NameLimits, Timestamp};

use super::caller::{Caller, Peer};
use super::query::ReadQuery;
use super::{caching, compression, headers};
use crate::config::{Config, ProxyConfig};
use crate::transfer::ExportReader;

/// Trusts the machine itself and some others.
static PROXY: LazyLock<ProxyConfig> =
    LazyLock::new(|| Config::with("proxy.trusted", "127.0.0.0/8, 10.0.0.0/8, fd00::/8").proxy);

/// Reads bytes as the lines of an export, up to the first that is refused.
pub fn read_export(bytes: &[u8]) {
    let mut reader = ExportReader::new(NameLimits::default());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if let Err(refusal) = reader.line(line) {
            assert!(!refusal.to_string().is_empty());
            return;
        }
    }
}

/// Reads a query and a header block in every way that requests are read.
pub fn read_request(query: &str, fields: &[(&str, &[u8])]) {
    let mut map = HeaderMap::new();
    for (name, value) in fields.iter().take(64) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    let peer = Peer::new(Ipv4Addr::LOCALHOST.into(), false, &PROXY.trusted);
    let caller = Caller::of(peer, &map, &PROXY, || Timestamp::from_millis(0));
    if let Ok(caller) = &caller {
        // What a proxy says of the client's URL must fit into a header again.
        let host = caller.origin(&map, &PROXY.trusted).host;
        assert!(host.is_none_or(|host| HeaderValue::from_str(&host).is_ok()));
    }
    let refusals = [
        caller.err(),
        ReadQuery::parse(Some(query)).err(),
        headers::content_type(&map).err(),
        headers::lifetime(&map).err(),
        headers::producer(&map).err(),
        headers::if_match(&map).err(),
        headers::only_new(&map).err(),
        headers::closed(&map).err(),
    ];
    for refusal in refusals.into_iter().flatten() {
        // A refusal must be sendable, whatever the client sent.
        drop(refusal.into_response());
    }
    let _encoding = compression::Encoding::negotiate(&map);
    let _known = caching::client_has(&map, &HeaderValue::from_static("\"x\""));
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_request_that_a_proxy_has_forwarded_is_read() {
        let fields: [(&str, &[u8]); 3] = [
            ("forwarded", b"for=\"[2001:db8::7]\";host=a.example"),
            ("x-tailwater-subject", b"ada"),
            ("x-tailwater-deadline", b"soon"),
        ];
        super::read_request("offset=-1&live=sse", &fields);
        super::read_request("", &fields[..2]);
    }
}
