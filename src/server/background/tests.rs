//! That what runs in the background is begun again after a panic, and then does its work. The panics are planted in the tasks
//! themselves.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use tailwater_storage::Engine;
use tailwater_storage::panics::Task;
use tailwater_storage::stream::{CreateCommand, Lifetime, StreamName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

use super::super::control_socket::{Asked, ControlSocket, Timeouts};
use super::super::metrics_port::MetricsPort;
use super::super::tls::Tls;
use super::super::{accept_for_ever, app_for_tests, storage, subscriptions};
use super::Background;
use crate::config::{Config, StorageMode, TlsConfig};
use crate::control::{Request, socket_of};
use crate::shutdown;

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that must come.
async fn until(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("it comes in time");
}

/// All that a peer answers to a request, however long it takes to be accepted.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> String {
    let mut answer = Vec::new();
    let asking = async {
        stream.write_all(request).await.expect("the peer reads");
        stream.read_to_end(&mut answer).await.expect("the peer answers")
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .expect("somebody answers");
    String::from_utf8(answer).expect("text")
}

async fn assert_is_alive(address: std::net::SocketAddr) {
    let stream = TcpStream::connect(address).await.expect("it is listened on");
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = ask(stream, request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

fn assert_panicked_once(engine: &Engine, task: Task) {
    assert_eq!(engine.stats().panics.of(task), 1, "{}", task.name());
}

#[tokio::test]
async fn lifetimes_end_after_a_panic_of_the_sweep() {
    let app = app_for_tests(Config::default());
    app.engine.stats().panics.plant(Task::Sweep);
    let name = StreamName::parse("short", app.name_limits).expect("a name");
    let command = CreateCommand {
        lifetime: Lifetime::Ttl { seconds: 1 },
        ..CreateCommand::default()
    };
    app.engine.create(&name, command).await.expect("created");
    let _background = Background::start(&app, None, None);
    until(|| app.engine.stats().expirations.get() == 1).await;
    assert_panicked_once(&app.engine, Task::Sweep);
}

#[tokio::test]
async fn reads_get_their_turns_after_a_panic_of_who_gives_them() {
    let mut config = Config::default();
    config.limits.max_read_wait_ms = 1_000_000;
    let app = app_for_tests(config);
    app.engine.stats().panics.plant(Task::ReadTurns);
    let share = Arc::clone(&app.read_share);
    let reading = tokio::spawn(async move { share.wait().await.is_ok() });
    until(|| app.read_share.waiting() == 1).await;
    let _background = Background::start(&app, None, None);
    let read = tokio::time::timeout(PATIENCE, reading).await;
    assert!(read.expect("its turn comes").expect("no panic"));
    assert_panicked_once(&app.engine, Task::ReadTurns);
}

#[tokio::test]
async fn health_is_told_after_a_panic_of_the_port_of_metrics() {
    let app = app_for_tests(Config::default());
    app.engine.stats().panics.plant(Task::MetricsPort);
    let port = MetricsPort::bind(Some(([127, 0, 0, 1], 0).into())).await;
    let port = port.expect("a port is free").expect("one was asked for");
    let address = port.address();
    let _background = Background::start(&app, Some(port), None);
    assert_is_alive(address).await;
    assert_panicked_once(&app.engine, Task::MetricsPort);
    let page = app.metrics.page(&app).await;
    assert!(
        page.contains("\ntailwater_task_panics_total{task=\"metrics_port\"} 1\n"),
        "{page}"
    );
}

#[tokio::test]
async fn clients_are_accepted_after_a_panic_of_who_accepts_them() {
    let app = app_for_tests(Config::default());
    app.engine.stats().panics.plant(Task::Connections);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let (_closing, closed) = watch::channel(());
    let accepting = tokio::spawn({
        let app = Arc::clone(&app);
        async move { accept_for_ever(&app, None, listener, closed).await }
    });
    assert_is_alive(address).await;
    assert_panicked_once(&app.engine, Task::Connections);
    accepting.abort();
}

#[tokio::test]
async fn operators_are_answered_after_a_panic_of_the_control_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("store");
    let mut config = Config::default();
    config.storage.mode = StorageMode::FileDurable;
    config.storage.data_dir = data_dir.clone();
    let config = Arc::new(config);
    let storage::Storage { engine, store } = storage::start(&config).expect("it opens");
    let (served, _deliverer) = subscriptions::start(&config, &engine).await.expect("started");
    engine.stats().panics.plant(Task::ControlSocket);
    let asked = Asked {
        store: store.expect("it is on disk"),
        keys: Arc::clone(&served.keys),
        data_dir: data_dir.clone(),
    };
    let timeouts = Timeouts {
        request: PATIENCE,
        answer: PATIENCE,
    };
    let socket = ControlSocket::listen(asked, &data_dir, timeouts, engine.clone());
    let stream = UnixStream::connect(socket_of(&data_dir))
        .await
        .expect("it is listened on");
    let mut request = serde_json::to_vec(&Request::Stats).expect("JSON");
    request.push(b'\n');
    let answer = ask(stream, &request).await;
    assert!(answer.starts_with("{\"stats\":"), "{answer}");
    assert_panicked_once(&engine, Task::ControlSocket);
    drop(socket);
    served.all.stop();
    tokio::task::spawn_blocking(move || engine.stop())
        .await
        .expect("no panic");
}

/// Writes a certificate that signs itself, and its key.
fn write_certificate(directory: &Path) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("signed");
    std::fs::write(directory.join("cert.pem"), certificate.pem()).expect("written");
    std::fs::write(directory.join("key.pem"), key.serialize_pem()).expect("written");
}

#[tokio::test]
async fn a_new_certificate_is_taken_after_a_panic_of_who_looks_for_it() {
    let app = app_for_tests(Config::default());
    app.engine.stats().panics.plant(Task::TlsFiles);
    let directory = tempfile::tempdir().expect("a directory");
    write_certificate(directory.path());
    let settings = TlsConfig {
        cert_path: Some(directory.path().join("cert.pem")),
        key_path: Some(directory.path().join("key.pem")),
        ..Config::default().tls
    };
    let (tls, files) = Tls::start(&settings).expect("usable").expect("it is on");
    let tls = Arc::new(tls);
    let hangups = shutdown::hangups().expect("signals can be received");
    let _background = Background::start(&app, None, Some((Arc::clone(&tls), files, hangups)));
    until(|| app.engine.stats().panics.of(Task::TlsFiles) == 1).await;
    write_certificate(directory.path());
    until(|| tls.metrics.reloads() == 1).await;
    assert_panicked_once(&app.engine, Task::TlsFiles);
}
