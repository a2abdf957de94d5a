//! Work that is not given up half-way.

/// Does something to its end, also if whoever asked goes away: what is durable is to be applied.
pub(crate) async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going away, and with it whoever asked.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}
