//! A client's connection to a server that may end at any moment. Knows nothing of what is asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use tailwater_e2e::{Connection, Request, Response, Server};

/// Where a run of the server is reached, and whether it is being ended.
#[derive(Debug)]
pub(crate) struct Run {
    address: SocketAddr,
    base_path: String,
    ending: AtomicBool,
    /// Whether it ends with the power: then nobody is answered from there on.
    ends_with_power: bool,
}

impl Run {
    pub(crate) fn of(server: &Server) -> Self {
        Self {
            address: server.address(),
            base_path: server.base_path().to_owned(),
            ending: AtomicBool::new(false),
            ends_with_power: false,
        }
    }

    /// One whose machine is to lose its power. A machine without power answers nobody. This one goes on for a moment, and its
    /// kernel lets a sync succeed then whose data the file system, which is shut down, has dropped. So what is heard once
    /// [`Self::end`] was said is not heard.
    pub(crate) fn losing_power(server: &Server) -> Self {
        Self {
            ends_with_power: true,
            ..Self::of(server)
        }
    }

    /// Whether what comes from the server now is no word of a machine that has power.
    pub(crate) fn is_powerless(&self) -> bool {
        self.ends_with_power && self.is_ending()
    }

    /// From now on the server may go away. Said before it is made to.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.base_path)
    }

    pub(crate) fn connect(&self) -> std::io::Result<Connection> {
        Connection::try_open(self.address)
    }
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Given(Response),
    /// The server is stopping and has said that it does not do it.
    Refused,
    /// The server went away: it has done it or not.
    Lost,
}

impl Answer {
    pub(crate) fn given(self) -> Option<Response> {
        match self {
            Self::Given(answer) => Some(answer),
            Self::Refused | Self::Lost => None,
        }
    }
}

/// A connection that is kept alive.
#[derive(Debug)]
pub(crate) struct Link<'r> {
    pub(crate) run: &'r Run,
    connection: Option<Connection>,
}

impl<'r> Link<'r> {
    pub(crate) fn new(run: &'r Run) -> Self {
        Self {
            run,
            connection: None,
        }
    }

    /// Panics if the server goes away though nobody ends it.
    #[track_caller]
    pub(crate) fn send(&mut self, request: &Request) -> Answer {
        match self.exchange(request) {
            Ok(Some(answer)) if answer.status() == 503 => {
                let code = answer.problem();
                assert!(
                    self.run.is_ending(),
                    "refused with {code} while it was up: {answer:?}"
                );
                self.connection = None;
                match code.as_str() {
                    "shutting_down" => Answer::Refused,
                    _ => Answer::Lost,
                }
            }
            Ok(Some(_)) if self.run.is_powerless() => {
                self.connection = None;
                Answer::Lost
            }
            Ok(Some(answer)) => Answer::Given(answer),
            gone => {
                assert!(self.run.is_ending(), "the server went away by itself: {gone:?}");
                self.connection = None;
                Answer::Lost
            }
        }
    }

    /// The answer of a server that nobody ends.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: &Request) -> Response {
        match self.send(request) {
            Answer::Given(answer) => answer,
            other => panic!("no answer to {request:?}: {other:?}"),
        }
    }

    fn exchange(&mut self, request: &Request) -> std::io::Result<Option<Response>> {
        if self.connection.is_none() {
            self.connection = Some(self.run.connect()?);
        }
        let connection = self.connection.as_mut().expect("it was just made");
        connection.write(&request.encode())?;
        connection.read_response(request.method())
    }
}

/// An offset as the server gave it, and the position that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) position: u64,
}

impl Token {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let position = text
            .split_once('_')
            .and_then(|(_, position)| position.parse().ok());
        Self {
            text: text.to_owned(),
            position: position.unwrap_or_else(|| panic!("not an offset: {text:?}")),
        }
    }

    /// The place behind what was written or read.
    #[track_caller]
    pub(crate) fn next(answer: &Response) -> Self {
        Self::parse(answer.expect_header("stream-next-offset"))
    }
}
