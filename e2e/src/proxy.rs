//! A TCP proxy that cuts connections in the middle of an exchange, as a bad network does: after the
//! request has reached the server and before its answer has reached the client.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A proxy before one server. Its threads end with the process of the test.
#[derive(Debug)]
pub struct CuttingProxy {
    address: SocketAddr,
    cuts: Arc<Cuts>,
}

#[derive(Debug, Default)]
struct Cuts {
    answers: AtomicUsize,
    cuts: AtomicUsize,
    has_ended: AtomicBool,
}

impl CuttingProxy {
    /// Listens before `server` and cuts every `nth` answer instead of passing it on.
    pub fn before(server: SocketAddr, nth: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let cuts = Arc::new(Cuts::default());
        let counted = Arc::clone(&cuts);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(server) else {
                    continue;
                };
                let (Ok(client_too), Ok(upstream_too)) = (client.try_clone(), upstream.try_clone()) else {
                    continue;
                };
                // An exchange of many small messages would wait for acknowledgements otherwise.
                for socket in [&client, &upstream] {
                    let _ = socket.set_nodelay(true);
                }
                std::thread::spawn(move || pass(client_too, upstream_too));
                let cuts = Arc::clone(&counted);
                std::thread::spawn(move || pass_or_cut(upstream, client, nth, &cuts));
            }
        });
        Self { address, cuts }
    }

    /// Where the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many answers it has cut.
    pub fn cuts(&self) -> usize {
        self.cuts.cuts.load(Ordering::Relaxed)
    }

    /// From now on all is passed on.
    pub fn cut_no_more(&self) {
        self.cuts.has_ended.store(true, Ordering::Relaxed);
    }
}

/// Passes bytes on until either side ends.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Passes answers on, but drops every `nth` one together with its connection.
fn pass_or_cut(mut from: TcpStream, mut to: TcpStream, nth: usize, cuts: &Cuts) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let answer = cuts.answers.fetch_add(1, Ordering::Relaxed) + 1;
        if answer.is_multiple_of(nth) && !cuts.has_ended.load(Ordering::Relaxed) {
            cuts.cuts.fetch_add(1, Ordering::Relaxed);
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
            return;
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
