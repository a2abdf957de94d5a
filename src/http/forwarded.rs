//! What proxies say of the way that a request has come: `Forwarded` (RFC 7239), or `X-Forwarded-For`, `-Proto` and `-Host`.
//!
//! Each proxy adds an element behind those that it was given, so the last one is the peer's own word and those before
//! it are what it was told. They are read from the end, for as long as the one that tells is trusted. Whatever the
//! client itself has written stands before all that and is not reached, however broken it is.

use std::borrow::Cow;
use std::iter::Rev;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderValue;
use http::header::{FORWARDED, HeaderMap, HeaderName, ValueIter};
use http::uri::Authority;

use crate::config::Networks;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Elements that are looked at; more proxies than stand in a row anywhere.
const ELEMENTS_MAX: usize = 32;
/// A longer element is not looked at, nor is anything before it.
const ELEMENT_BYTES_MAX: usize = 1024;
/// The longest name of a host and a port.
const HOST_BYTES_MAX: usize = 253 + ":65535".len();

/// What trusted proxies say of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Forwarded<'h> {
    /// The first address from the end that is not itself trusted; the last good one where they break off before.
    pub(super) client: IpAddr,
    /// That of the client's URL: `http` or `https`.
    pub(super) scheme: Option<&'static str>,
    /// That of the client's URL, with a port if there was one.
    pub(super) host: Option<Cow<'h, str>>,
}

impl<'h> Forwarded<'h> {
    /// Reads the head of a request whose `peer` is trusted. `Forwarded` counts alone if it is there.
    pub(super) fn read(peer: IpAddr, head: &'h HeaderMap, trusted: &Networks) -> Self {
        let mut read = Self {
            client: peer,
            scheme: None,
            host: None,
        };
        if head.contains_key(FORWARDED) {
            for element in Elements::of(head, &FORWARDED) {
                let Some(hop) = Hop::parse(element) else { break };
                // A proxy further away is nearer to the client, so what it says is what the client used.
                read.scheme = hop.scheme.or(read.scheme);
                read.host = hop.host.or(read.host.take());
                if !read.goes_on_from(hop.address, trusted) {
                    break;
                }
            }
        } else {
            for element in Elements::of(head, &X_FORWARDED_FOR) {
                let address = std::str::from_utf8(element).ok().and_then(address);
                if !read.goes_on_from(address, trusted) {
                    break;
                }
            }
            let last = |name| {
                let element = Elements::of(head, name).next()?;
                std::str::from_utf8(element).ok()
            };
            read.scheme = last(&X_FORWARDED_PROTO).and_then(scheme);
            let host = last(&X_FORWARDED_HOST).filter(|text| is_host(text));
            read.host = host.map(Cow::Borrowed);
        }
        read
    }

    /// Takes the next address from the end. Answers whether that one is trusted to tell of another one.
    fn goes_on_from(&mut self, address: Option<IpAddr>, trusted: &Networks) -> bool {
        let Some(address) = address else { return false };
        self.client = address;
        trusted.contain(address)
    }
}

/// The elements of a header that is a list, from the end. Empty ones are passed over.
struct Elements<'h> {
    lines: Rev<ValueIter<'h, HeaderValue>>,
    /// What is left of a line.
    rest: Option<&'h [u8]>,
    left: usize,
}

impl<'h> Elements<'h> {
    fn of(head: &'h HeaderMap, name: &HeaderName) -> Self {
        Self {
            lines: head.get_all(name).iter().rev(),
            rest: None,
            left: ELEMENTS_MAX,
        }
    }
}

impl<'h> Iterator for Elements<'h> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<&'h [u8]> {
        loop {
            self.left = self.left.checked_sub(1)?;
            let line = match self.rest.take() {
                Some(rest) => rest,
                None => self.lines.next()?.as_bytes(),
            };
            let out_of_sight = line.len().saturating_sub(ELEMENT_BYTES_MAX);
            let element = match last_comma(&line[out_of_sight..]) {
                Some(place) => {
                    let (rest, element) = line.split_at(out_of_sight + place);
                    self.rest = Some(rest);
                    &element[1..]
                }
                None if out_of_sight > 0 => {
                    self.left = 0;
                    return None;
                }
                None => line,
            };
            let element = element.trim_ascii();
            if !element.is_empty() {
                return Some(element);
            }
        }
    }
}

/// The last comma that is not within quotes.
fn last_comma(text: &[u8]) -> Option<usize> {
    let is_escaped = |place: usize| {
        let before = text[..place].iter().rev();
        before.take_while(|byte| **byte == b'\\').count() % 2 == 1
    };
    let mut is_quoted = false;
    for place in (0..text.len()).rev() {
        match text[place] {
            b'"' if !is_escaped(place) => is_quoted = !is_quoted,
            b',' if !is_quoted => return Some(place),
            _ => {}
        }
    }
    None
}

/// One element of `Forwarded`: what one proxy says of whom it was asked by.
#[derive(Debug, PartialEq, Eq)]
struct Hop<'h> {
    /// None if the proxy does not tell, or not in a way that can be used.
    address: Option<IpAddr>,
    scheme: Option<&'static str>,
    host: Option<Cow<'h, str>>,
}

impl<'h> Hop<'h> {
    /// None if the element does not have the form of one. Parameters that mean nothing here are passed over.
    fn parse(element: &'h [u8]) -> Option<Self> {
        let mut rest = std::str::from_utf8(element).ok()?;
        let (mut by_whom, mut scheme_text, mut host_text) = (None, None, None);
        while !rest.is_empty() {
            if let Some(behind) = rest.strip_prefix(';') {
                rest = behind.trim_start();
                continue;
            }
            let (name, from_value) = rest.split_once('=')?;
            if name.is_empty() || !name.bytes().all(is_token_byte) {
                return None;
            }
            let (value, behind) = value(from_value)?;
            rest = behind.trim_start();
            if !(rest.is_empty() || rest.starts_with(';')) {
                return None;
            }
            let field = match name {
                _ if name.eq_ignore_ascii_case("for") => &mut by_whom,
                _ if name.eq_ignore_ascii_case("proto") => &mut scheme_text,
                _ if name.eq_ignore_ascii_case("host") => &mut host_text,
                _ => continue,
            };
            if field.replace(value).is_some() {
                return None;
            }
        }
        Some(Self {
            address: by_whom.and_then(|text: Cow<'_, str>| address(&text)),
            scheme: scheme_text.and_then(|text: Cow<'_, str>| scheme(&text)),
            host: host_text.filter(|text| is_host(text)),
        })
    }
}

/// The value that a text begins with, quoted or not, and what stands behind it. Addresses with a port or brackets have to
/// be quoted by the standard, and are often not.
fn value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (value, behind) = text.split_at(end);
        let value = value.trim_end();
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
        return (!value.is_empty() && value.bytes().all(is_plain)).then_some((Cow::Borrowed(value), behind));
    };
    let mut unescaped: Option<String> = None;
    let mut letters = quoted.char_indices();
    while let Some((place, letter)) = letters.next() {
        match letter {
            '"' => {
                let value = unescaped.map_or(Cow::Borrowed(&quoted[..place]), Cow::Owned);
                return Some((value, &quoted[place + 1..]));
            }
            '\\' => {
                let (_, escaped) = letters.next()?;
                unescaped
                    .get_or_insert_with(|| quoted[..place].to_owned())
                    .push(escaped);
            }
            _ => {
                if let Some(unescaped) = &mut unescaped {
                    unescaped.push(letter);
                }
            }
        }
    }
    None
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// An address as proxies write it: alone, in brackets, or with a port, which may be hidden (`_http`). None for
/// `unknown`, for hidden names, and for what is no address.
fn address(text: &str) -> Option<IpAddr> {
    let hidden_port = text.rsplit_once(":_").map(|(address, _)| address);
    let text = hidden_port.unwrap_or(text);
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bracketed {
        Some(text) => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text
            .parse()
            .ok()
            .or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip())),
    };
    address.map(|address| address.to_canonical())
}

fn scheme(text: &str) -> Option<&'static str> {
    ["http", "https"]
        .into_iter()
        .find(|known| text.eq_ignore_ascii_case(known))
}

/// Whether a text can stand in a URL as its host, with or without a port.
fn is_host(text: &str) -> bool {
    if text.len() > HOST_BYTES_MAX || text.contains('@') {
        return false;
    }
    text.parse::<Authority>().is_ok_and(|authority| {
        let host = authority.host();
        let port = &text[host.len()..];
        !host.is_empty() && (port.is_empty() || authority.port_u16().is_some())
    })
}

#[cfg(test)]
mod tests;
