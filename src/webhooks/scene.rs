//! A network for tests: names lead where a test says, whatever is dialled gets to one receiver, and each look-up and
//! connection is noted. Receivers are bytes in memory, so that time can stand still.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use tailwater_storage::clock::ManualClock;
use tailwater_storage::stream::subscription::{Link, SubscriptionId, Tail, WakeId, WokenStream};
use tailwater_storage::stream::{Lineage, NameLimits, Position, StreamId, StreamName, Timestamp};
use tailwater_storage::subscriptions::deliver::WebhookDelivery;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::network::{Network, Wire};
use super::{Deliverer, Keys};
use crate::config::{Config, Flag, Sources, SubscriptionsConfig};

/// When tests begin.
pub(super) const NOW_MS: u64 = 1_800_000_000_000;
/// A URL that reaches the receiver without TLS, if this machine is allowed.
pub(super) const LOCAL_URL: &str = "http://127.0.0.1:9/hooks?a=b";

type Receiver = Box<dyn Fn(DuplexStream) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a look-up does.
#[derive(Clone)]
pub(super) enum Found {
    Addresses(Vec<IpAddr>),
    Failure,
    Nothing,
}

/// What dialling does.
pub(super) enum Line {
    Receiver(Receiver),
    Refused,
    Dead,
}

/// The network.
pub(super) struct Scene {
    line: Line,
    /// One for each look-up; the last one stays.
    found: Mutex<VecDeque<Found>>,
    pub(super) looked_up: Mutex<Vec<String>>,
    pub(super) dialled: Mutex<Vec<SocketAddr>>,
}

impl Scene {
    /// A network with a receiver that serves each connection in this way.
    pub(super) fn receiving<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(DuplexStream) -> F + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::with(Line::Receiver(Box::new(move |wire| Box::pin(serve(wire)))), &[])
    }

    /// One whose receiver reads the request, answers these bytes, and leaves or `stays`.
    pub(super) fn answering(answer: impl Into<Vec<u8>>, stays: bool) -> Arc<Self> {
        let answer: Arc<[u8]> = answer.into().into();
        Self::receiving(move |mut wire| {
            let answer = Arc::clone(&answer);
            async move {
                let _request = read_request(&mut wire).await;
                // A sender that has heard enough goes away.
                let _gone = wire.write_all(&answer).await;
                if stays {
                    std::future::pending::<()>().await;
                }
            }
        })
    }

    /// One whose names lead there, look-up by look-up.
    pub(super) fn with(line: Line, found: &[Found]) -> Arc<Self> {
        Arc::new(Self {
            line,
            found: Mutex::new(found.to_vec().into()),
            looked_up: Mutex::default(),
            dialled: Mutex::default(),
        })
    }

    pub(super) fn dialled(&self) -> Vec<String> {
        let dialled = self.dialled.lock().expect("unpoisoned");
        dialled.iter().map(ToString::to_string).collect()
    }
}

pub(super) fn leads_to(addresses: &[&str]) -> Found {
    let addresses = addresses
        .iter()
        .map(|address| address.parse().expect("an address"));
    Found::Addresses(addresses.collect())
}

impl Network for Scene {
    fn look_up(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        self.looked_up.lock().expect("unpoisoned").push(name.to_owned());
        let mut found = self.found.lock().expect("unpoisoned");
        let next = if found.len() > 1 {
            found.pop_front()
        } else {
            found.front().cloned()
        };
        match next.expect("a test that looks names up says where they lead") {
            Found::Addresses(addresses) => Box::pin(std::future::ready(Ok(addresses))),
            Found::Failure => Box::pin(std::future::ready(Err(io::Error::other("no such name")))),
            Found::Nothing => Box::pin(std::future::pending()),
        }
    }

    fn dial(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Wire>>> {
        self.dialled.lock().expect("unpoisoned").push(address);
        match &self.line {
            Line::Receiver(serve) => {
                let (near, far) = tokio::io::duplex(16 << 10);
                tokio::spawn(serve(far));
                Box::pin(std::future::ready(Ok(Box::new(near) as Box<dyn Wire>)))
            }
            Line::Refused => Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into()))),
            Line::Dead => Box::pin(std::future::pending()),
        }
    }
}

/// A request, once all of it is there.
pub(super) async fn read_request(wire: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let (mut request, mut piece) = (String::new(), [0; 4096]);
    loop {
        let count = wire.read(&mut piece).await.expect("the sender writes");
        assert_ne!(count, 0, "the sender leaves before all is said: {request}");
        request.push_str(std::str::from_utf8(&piece[..count]).expect("text"));
        let Some((head, body)) = request.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().expect("a length")) {
            return request;
        }
    }
}

/// Settings of `[subscriptions]`; this machine is allowed.
pub(super) fn config(settings: &[(&str, &str)]) -> SubscriptionsConfig {
    let all = [&[("allow_http_localhost", "true")][..], settings].concat();
    let flags = all.iter().map(|(key, value)| Flag {
        flag: "--set".to_owned(),
        key: format!("subscriptions.{key}"),
        value: (*value).to_owned(),
    });
    let sources = Sources {
        flags: flags.collect(),
        ..Sources::default()
    };
    Config::load(&sources).expect("a configuration").subscriptions
}

pub(super) fn keys() -> Arc<Keys> {
    let clock = Arc::new(ManualClock::at_millis(NOW_MS));
    Arc::new(Keys::open(None, clock).expect("in memory"))
}

pub(super) fn deliverer(scene: &Arc<Scene>, settings: &[(&str, &str)]) -> Deliverer {
    Deliverer::over(Arc::clone(scene) as _, &config(settings), keys()).expect("no file")
}

/// A wake of a subscription with one stream, under a lease of half a minute.
pub(super) fn delivery(subscription: &str, url: &str) -> WebhookDelivery {
    let limits = NameLimits {
        bytes_max: 100,
        segments_max: 10,
    };
    let id = StreamId::new(1_795_213_228_525_595).expect("an id");
    let lineage = Lineage::root(id);
    WebhookDelivery {
        subscription: SubscriptionId::parse(subscription).expect("an id"),
        url: url.into(),
        root: "https://server.example/v1/stream".into(),
        wake: WakeId::new(0xabc),
        generation: 7,
        streams: vec![WokenStream {
            stream: StreamName::parse("events/abc", limits).expect("a name"),
            link: Link::GLOB,
            tail: Tail {
                lineage,
                position: Position::new(36).expect("a position"),
            },
        }],
        lease_ends_at: Timestamp::from_millis(NOW_MS + 30_000),
        failures: 0,
    }
}
