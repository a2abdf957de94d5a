//! A collector that takes spans by OTLP over HTTP, and keeps them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tailwater_e2e::eventually;

/// A span, and who sent it.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// The name of the service.
    pub(crate) service: String,
    pub(crate) span: Span,
}

impl Received {
    /// An attribute of the span, as text.
    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        text(&self.span.attributes, key)
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

/// Listens until the test ends.
pub(crate) struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let received = Arc::default();
        let kept = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve(&stream.expect("a connection"), &kept));
            }
        });
        Self { address, received }
    }

    /// What programs are to be told of it.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that has come so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The first span of that name, once it has come.
    #[track_caller]
    pub(crate) fn span(&self, name: &str) -> Received {
        self.span_where(name, |_| true)
    }

    /// The first span of that name that is as it should be, once it has come.
    #[track_caller]
    pub(crate) fn span_where(&self, name: &str, is_it: impl Fn(&Span) -> bool) -> Received {
        eventually(name, || {
            let received = self.received();
            received
                .into_iter()
                .find(|received| received.span.name == name && is_it(&received.span))
        })
    }
}

/// Answers requests on a connection until it ends.
fn serve(stream: &TcpStream, kept: &Mutex<Vec<Received>>) {
    let mut reader = BufReader::new(stream);
    while let Some(body) = request(&mut reader) {
        let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("spans by OTLP");
        for of_resource in request.resource_spans {
            let resource = of_resource.resource.expect("spans say whose they are");
            let service = text(&resource.attributes, "service.name").expect("the service has a name");
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            kept.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(spans.map(|span| Received {
                    service: service.clone(),
                    span,
                }));
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        let mut writer = stream;
        if writer.write_all(answer).is_err() {
            return;
        }
    }
}

/// The body of the next request; none once the peer has gone.
fn request(reader: &mut BufReader<&TcpStream>) -> Option<Vec<u8>> {
    let mut length = None;
    let mut is_first = true;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if is_first {
            assert_eq!(line, "POST /v1/traces HTTP/1.1");
            is_first = false;
        }
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok(),
                "content-type" => assert_eq!(value, "application/x-protobuf"),
                _ => {}
            }
        }
    }
    let mut body = vec![0; length.expect("bodies have lengths")];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}
