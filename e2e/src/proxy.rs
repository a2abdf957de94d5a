//! TCP proxies that do what bad networks do to answers, once the request has reached the server: one cuts connections
//! instead of passing them on, one keeps them back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A proxy before one server. Its threads end with the process of the test.
#[derive(Debug)]
pub struct CuttingProxy {
    address: SocketAddr,
    cuts: Arc<Cuts>,
}

#[derive(Debug, Default)]
struct Cuts {
    /// The first answer with a body that breaks off before its last byte. Without it, answers are dropped whole.
    within: Option<usize>,
    answers: AtomicUsize,
    cuts: AtomicUsize,
    has_ended: AtomicBool,
}

impl CuttingProxy {
    /// Listens before `server` and cuts every `nth` answer instead of passing it on.
    pub fn before(server: SocketAddr, nth: usize) -> Self {
        Self::cutting(server, nth, Cuts::default())
    }

    /// The same, but so that of answers with a body number `first`, and each `nth` one behind it, breaks off before its last
    /// byte.
    pub fn within(server: SocketAddr, first: usize, nth: usize) -> Self {
        let cuts = Cuts {
            within: Some(first),
            ..Cuts::default()
        };
        Self::cutting(server, nth, cuts)
    }

    fn cutting(server: SocketAddr, nth: usize, cuts: Cuts) -> Self {
        let cuts = Arc::new(cuts);
        let counted = Arc::clone(&cuts);
        let address = listen(server, move |from, to| pass_or_cut(from, to, nth, &counted));
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

/// A proxy before one server that keeps answers back while their connections stay open. Its threads end with the process
/// of the test.
#[derive(Debug)]
pub struct HoldingProxy {
    address: SocketAddr,
    /// How long each answer is kept back, in milliseconds.
    held_ms: Arc<AtomicU64>,
}

impl HoldingProxy {
    /// Longer than any test takes.
    const FOR_EVER: Duration = Duration::from_secs(3_600);

    /// Listens before `server`, and passes all on at once until it is told otherwise.
    pub fn before(server: SocketAddr) -> Self {
        let held_ms = Arc::new(AtomicU64::new(0));
        let held = Arc::clone(&held_ms);
        let address = listen(server, move |from, to| pass_later(from, to, &held));
        Self { address, held_ms }
    }

    /// Where the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on each answer is passed on so much later.
    pub fn hold_each(&self, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).expect("a delay that a test can wait for");
        self.held_ms.store(delay_ms, Ordering::Relaxed);
    }

    /// From now on no answer comes through, and no connection ends.
    pub fn fall_silent(&self) {
        self.hold_each(Self::FOR_EVER);
    }
}

/// Connects whoever comes with `server`; `answers` has the way back. Answers with where it listens.
fn listen(server: SocketAddr, answers: impl Fn(TcpStream, TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
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
            let answers = answers.clone();
            std::thread::spawn(move || answers(upstream, client));
        }
    });
    address
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

/// Passes answers on, but drops every `nth` one, or its end, together with its connection.
fn pass_or_cut(mut from: TcpStream, mut to: TcpStream, nth: usize, cuts: &Cuts) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        // Some clients take a head without its last byte for a whole one.
        let is_counted = cuts.within.is_none() || !buffer[..count].ends_with(b"\r\n\r\n");
        let answer = cuts.answers.fetch_add(usize::from(is_counted), Ordering::Relaxed) + 1;
        let behind_first = answer.checked_sub(cuts.within.unwrap_or(nth));
        if is_counted
            && behind_first.is_some_and(|behind| behind.is_multiple_of(nth))
            && !cuts.has_ended.load(Ordering::Relaxed)
        {
            cuts.cuts.fetch_add(1, Ordering::Relaxed);
            if cuts.within.is_some() {
                let _ = to.write_all(&buffer[..count - 1]);
            }
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

/// Passes answers on, each as late as it is to be when it comes.
fn pass_later(mut from: TcpStream, mut to: TcpStream, held_ms: &AtomicU64) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        std::thread::sleep(Duration::from_millis(held_ms.load(Ordering::Relaxed)));
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
