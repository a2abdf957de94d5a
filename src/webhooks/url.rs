//! The URL of a webhook: parsed once, strictly, and judged by what can be told without asking anybody (PROTOCOL.md §6.2,
//! §12.8). What a name leads to is judged when a webhook is sent, for it may change at any time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};

use super::addresses::{self, RefusedAddress};
use crate::config::{Hosts, SubscriptionsConfig};

/// A longer URL is refused: it is kept with the subscription, and told in every listing.
const URL_BYTES_MAX: usize = 2048;
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
/// Ends of names that only have a meaning within a network.
const INNER_ENDS: [&str; 4] = ["internal", "local", "localhost", "home.arpa"];

/// Where webhooks may go.
#[derive(Debug, Clone, Default)]
pub struct UrlRules {
    allow_http_localhost: bool,
    allowed_hosts: Hosts,
}

impl UrlRules {
    /// As configured.
    pub fn new(config: &SubscriptionsConfig) -> Self {
        Self {
            allow_http_localhost: config.allow_http_localhost,
            allowed_hosts: config.allowed_hosts.clone(),
        }
    }
}

/// Why a URL is no webhook's. Each says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("webhook.url is refused: {0}")]
pub struct UrlError(#[from] Fault);

/// What is wrong with a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("it has {0} bytes, and {URL_BYTES_MAX} is the most")]
    TooLong(usize),
    #[error("it is no URL ({0}); write one such as https://worker.example/hooks")]
    NoUrl(String),
    #[error("the character {0:?} stands in it; percent-encode it, or write a host's other letters as xn--…")]
    Character(char),
    #[error("it has a fragment, which no request carries; leave out what begins with #")]
    Fragment,
    #[error(
        "it has a user or a password; leave it out: receivers know the server by its signature (Webhook-Signature)"
    )]
    UserInfo,
    #[error("its scheme is `{0}`; webhooks go over https")]
    Scheme(String),
    #[error("it goes over http to `{0}`; use https, which only hosts of this machine may go without")]
    NotEncrypted(String),
    #[error("`{0}` is no port; write one from 1 to 65535, or none for 443")]
    Port(String),
    #[error("`{0}` is no name of a host; write names as the DNS has them, without a dot at the end")]
    Name(String),
    #[error("`{0}` is an address in an odd spelling; write four decimal numbers, or [an IPv6 address]")]
    OddAddress(String),
    #[error("`{0}` is a name of an inner network; webhooks go to public hosts")]
    InnerName(String),
    #[error(
        "`{0}` is this machine; webhooks go there only while developing, with subscriptions.allow_http_localhost \
         (DS_SUBSCRIPTIONS__ALLOW_HTTP_LOCALHOST=true)"
    )]
    ThisMachine(String),
    #[error("{0}; webhooks go to public addresses")]
    Address(#[from] RefusedAddress),
    #[error("`{0}` is not among the hosts of subscriptions.allowed_hosts; add it there")]
    NotAllowed(String),
}

/// Whom to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Host {
    /// A name of the DNS, in lower case.
    Name(String),
    /// A public address.
    Address(IpAddr),
    /// This machine, at one of its own addresses: what `localhost` means, without asking anybody.
    Local(Vec<IpAddr>),
}

/// A URL that webhooks may be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookUrl {
    pub(super) is_tls: bool,
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) path: PathAndQuery,
    /// `host` or `host:port`, as it was written: the header `Host`.
    pub(super) authority: HeaderValue,
    /// As it was written, without the brackets of an IPv6 address: what a certificate must be for.
    pub(super) host_text: String,
}

impl WebhookUrl {
    /// Parses and judges a URL. Asks nobody.
    ///
    /// # Errors
    /// [`UrlError`], which names what is wrong and what to write instead.
    pub fn parse(text: &str, rules: &UrlRules) -> Result<Self, UrlError> {
        Ok(parse(text, rules)?)
    }
}

fn parse(text: &str, rules: &UrlRules) -> Result<WebhookUrl, Fault> {
    if text.len() > URL_BYTES_MAX {
        return Err(Fault::TooLong(text.len()));
    }
    // Readers of URLs disagree on these: what one takes for a host, another takes for a path.
    let is_plain = |c: char| c.is_ascii_graphic() && !r#""<>\^`{|}"#.contains(c);
    if let Some(strange) = text.chars().find(|c| !is_plain(*c)) {
        return Err(Fault::Character(strange));
    }
    if text.contains('#') {
        return Err(Fault::Fragment);
    }
    let uri: Uri = text
        .parse()
        .map_err(|error: http::uri::InvalidUri| Fault::NoUrl(error.to_string()))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(Fault::NoUrl("it has no scheme or no host".to_owned()));
    };
    let is_tls = match scheme {
        "https" => true,
        "http" => false,
        other => return Err(Fault::Scheme(other.to_owned())),
    };
    if authority.as_str().contains('@') {
        return Err(Fault::UserInfo);
    }
    let (host_text, port_text) = split_port(authority.as_str());
    let port = port(port_text, is_tls)?;
    let host = host(host_text)?;
    match &host {
        Host::Local(_) if !rules.allow_http_localhost => {
            return Err(Fault::ThisMachine(host_text.to_owned()));
        }
        Host::Local(_) => {}
        Host::Name(_) | Host::Address(_) if !is_tls => return Err(Fault::NotEncrypted(host_text.to_owned())),
        Host::Address(address) => addresses::check(*address)?,
        Host::Name(_) => {}
    }
    let plain_host = host_text.trim_matches(['[', ']']).to_ascii_lowercase();
    if !matches!(host, Host::Local(_)) && !rules.allowed_hosts.contain(&plain_host) {
        return Err(Fault::NotAllowed(host_text.to_owned()));
    }
    let authority = HeaderValue::from_str(authority.as_str()).expect("it is made of plain characters");
    Ok(WebhookUrl {
        is_tls,
        host,
        port,
        path: uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/")),
        authority,
        host_text: plain_host,
    })
}

/// The host, with the brackets of an IPv6 address, and what stands behind it, with its colon.
fn split_port(authority: &str) -> (&str, &str) {
    let host_len = match authority.find(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    authority.split_at(host_len)
}

fn port(text: &str, is_tls: bool) -> Result<u16, Fault> {
    if text.is_empty() {
        return Ok(if is_tls { 443 } else { 80 });
    }
    let digits = text.strip_prefix(':').unwrap_or_default();
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.parse().ok().filter(|port| is_number && *port != 0);
    port.ok_or_else(|| Fault::Port(text.to_owned()))
}

fn host(text: &str) -> Result<Host, Fault> {
    let of_address = |address: IpAddr| {
        if address.is_loopback() {
            Host::Local(vec![address])
        } else {
            Host::Address(address)
        }
    };
    if let Some(within) = text.strip_prefix('[') {
        let address = within
            .strip_suffix(']')
            .and_then(|within| within.parse::<Ipv6Addr>().ok());
        return match address {
            Some(address) => Ok(of_address(address.into())),
            None => Err(Fault::OddAddress(text.to_owned())),
        };
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(of_address(address.into()));
    }
    let name = text.to_ascii_lowercase();
    let labels: Vec<_> = name.split('.').collect();
    let is_label = |label: &&str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if name.len() > NAME_BYTES_MAX || !labels.iter().all(is_label) {
        return Err(Fault::Name(text.to_owned()));
    }
    // Browsers and the system's own resolver take a name that ends like this for an address: 127.1, 0x7f000001, 2130706433.
    let last = labels.last().copied().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
        return Err(Fault::OddAddress(text.to_owned()));
    }
    if name == "localhost" {
        return Ok(Host::Local(vec![
            Ipv4Addr::LOCALHOST.into(),
            Ipv6Addr::LOCALHOST.into(),
        ]));
    }
    let is_inner = INNER_ENDS.iter().any(|end| {
        let before = name.strip_suffix(end);
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    });
    // A name of one label is completed from the lists of the machine's own network.
    if is_inner || labels.len() == 1 {
        return Err(Fault::InnerName(text.to_owned()));
    }
    Ok(Host::Name(name))
}

#[cfg(test)]
mod tests;
