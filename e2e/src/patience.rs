//! How long a test waits for what must happen. Only a broken server ever uses the whole time, so the
//! figure is generous and no test's verdict depends on how fast a machine is.

use std::time::{Duration, Instant};

/// The time after which something that must happen counts as never happening.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks of [`eventually`].
const GLANCE: Duration = Duration::from_millis(10);

/// Asks until the answer is there and returns it; panics, naming `what`, when patience ends.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(GLANCE);
    }
}
