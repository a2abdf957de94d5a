//! A relay between a pooler and its PostgreSQL that holds back what is said behind an error until the client has asked
//! something else: the order of events that a slow machine brings about once in a while. Knows the frames of the
//! protocol, and nothing in them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

const QUERY: u8 = b'Q';
const ERROR: u8 = b'E';

/// A relay before one server. Its threads end with the connections, and with the process of the test.
pub(crate) struct LateAnswers {
    pub(crate) address: SocketAddr,
}

/// What one connection has been asked.
#[derive(Default)]
struct Asked {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queries: u64,
    has_ended: bool,
}

impl LateAnswers {
    pub(crate) fn of(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for pooler in listener.incoming().flatten() {
                let server = TcpStream::connect(server).unwrap();
                for socket in [&pooler, &server] {
                    socket.set_nodelay(true).unwrap();
                }
                let asked = Arc::new(Asked::default());
                let (from, to) = (pooler.try_clone().unwrap(), server.try_clone().unwrap());
                let noted = Arc::clone(&asked);
                std::thread::spawn(move || pass_questions(from, to, &noted));
                std::thread::spawn(move || pass_answers(server, pooler, &asked));
            }
        });
        Self { address }
    }
}

impl Asked {
    fn queries(&self) -> u64 {
        self.state.lock().unwrap().queries
    }

    fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits for another query than those so many, or for the end of the connection.
    fn wait_behind(&self, queries: u64) {
        let state = self.state.lock().unwrap();
        let waits = |state: &mut State| state.queries == queries && !state.has_ended;
        drop(self.changed.wait_while(state, waits).unwrap());
    }
}

fn pass_questions(mut from: TcpStream, mut to: TcpStream, asked: &Asked) {
    // The first message has no letter before its length.
    let mut is_first = true;
    while let Ok(message) = read_message(&mut from, !is_first) {
        let is_query = !is_first && message[0] == QUERY;
        is_first = false;
        if to.write_all(&message).is_err() {
            break;
        }
        if is_query {
            asked.note(|state| state.queries += 1);
        }
    }
    asked.note(|state| state.has_ended = true);
    let _ = to.shutdown(Shutdown::Both);
}

fn pass_answers(mut from: TcpStream, mut to: TcpStream, asked: &Asked) {
    while let Ok(message) = read_message(&mut from, true) {
        let queries = asked.queries();
        if to.write_all(&message).is_err() {
            break;
        }
        if message[0] == ERROR {
            asked.wait_behind(queries);
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn read_message(from: &mut impl Read, has_letter: bool) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(has_letter) + 4];
    from.read_exact(&mut message)?;
    let (letter, length) = message.split_at(usize::from(has_letter));
    let body = u32::from_be_bytes(length.try_into().unwrap()) - 4;
    let head = letter.len() + length.len();
    message.resize(head + body as usize, 0);
    from.read_exact(&mut message[head..])?;
    Ok(message)
}
