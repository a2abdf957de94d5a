//! File systems of their own, which a test may fill to the brim or take the power from. They need the right to
//! mount, so every test that uses one is ignored unless asked for: see README.md.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// `EXT4_IOC_SHUTDOWN` of the kernel's ext4: from now on nothing reaches the device.
const SHUTDOWN: libc::Ioctl = 0x8004_587D_u32 as libc::Ioctl;
/// The name of this run of the machine, by which a store knows whether the machine has crashed.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: what the file system's own journal has in memory is lost as well.
const WITHOUT_FLUSHING: libc::c_uint = 2;

/// A mounted file system; unmounted and gone when dropped.
#[derive(Debug)]
pub struct Volume {
    /// The image, if there is one, and the place where it is mounted.
    home: TempDir,
    is_mounted: bool,
}

impl Volume {
    /// A tmpfs of that many MiB.
    #[track_caller]
    pub fn tmpfs(mebibytes: u64) -> Self {
        let mut volume = Self::unmounted();
        let size = format!("size={mebibytes}m,mode=700");
        volume.mount(&["-t", "tmpfs", "-o", &size, "tmpfs"]);
        volume
    }

    /// An ext4 of that many MiB on a loop device.
    #[track_caller]
    pub fn ext4(mebibytes: u64) -> Self {
        let mut volume = Self::unmounted();
        let image = File::create(volume.image()).expect("an image can be made");
        image.set_len(mebibytes << 20).expect("an image can be made");
        // Without blocks that only root may fill, the disk is as full for root as for others.
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0"])
            .arg(volume.image()));
        volume.mount_image();
        volume
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.home.path().join("mounted")
    }

    /// A directory on it, as a setting.
    pub fn place(&self, name: &str) -> String {
        let place = self.path().join(name);
        place
            .to_str()
            .expect("temporary directories have plain names")
            .to_owned()
    }

    /// Fills it with one file until nothing more fits.
    #[track_caller]
    pub fn fill(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        let mut file = File::create(&path).expect("a file can be made");
        let block = vec![b'x'; 4096];
        for piece in [&block[..], &block[..1]] {
            while file.write_all(piece).is_ok() {}
        }
        path
    }

    /// Ends an ext4 as a power loss does: what was not synced is lost. Nothing can be read or written until
    /// [`Volume::power_up`].
    #[track_caller]
    pub fn power_down(&self) {
        let mounted = File::open(self.path()).expect("the volume is mounted");
        let flags = WITHOUT_FLUSHING;
        // SAFETY: the descriptor is open, and this request reads one u32 through its argument, which lives on.
        #[expect(unsafe_code, reason = "no safe function takes the power from a file system")]
        let outcome = unsafe { libc::ioctl(mounted.as_raw_fd(), SHUTDOWN, &raw const flags) };
        assert_eq!(
            outcome,
            0,
            "cannot shut ext4 down: {}",
            std::io::Error::last_os_error()
        );
    }

    /// Mounts an ext4 again, after all who used it have ended, as another run of the machine. What the kernel had of
    /// it in memory is gone.
    #[track_caller]
    pub fn power_up(&mut self) {
        run(Command::new("umount").arg(self.path()));
        self.is_mounted = false;
        rename_boot();
        self.mount_image();
    }

    fn unmounted() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(home.path().join("mounted")).expect("a directory");
        Self {
            home,
            is_mounted: false,
        }
    }

    fn image(&self) -> PathBuf {
        self.home.path().join("image")
    }

    #[track_caller]
    fn mount_image(&mut self) {
        let image = self.image();
        self.mount(&["-t", "ext4", "-o", "loop", plain(&image)]);
    }

    #[track_caller]
    fn mount(&mut self, what: &[&str]) {
        run(Command::new("mount").args(what).arg(self.path()));
        self.is_mounted = true;
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.is_mounted {
            // A lazy one, because a server under test may not have ended yet.
            let _ = Command::new("umount").arg("-l").arg(self.path()).output();
        }
    }
}

/// Gives the run of the machine another name, for all who share this process's mounts.
#[track_caller]
fn rename_boot() {
    static NAME: OnceLock<File> = OnceLock::new();
    static BOOTS: AtomicU32 = AtomicU32::new(0);
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    assert_ne!(
        of("self"),
        of("1"),
        "a machine that loses power has another boot id afterwards, which can only be told to those in a mount \
         namespace of their own: run this test as `make soak` does, by `unshare --mount`"
    );
    let mut name = NAME.get_or_init(|| {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        run(Command::new("mount").arg("--bind").arg(file.path()).arg(BOOT_ID));
        // Its own name is not needed any more.
        file.into_file()
    });
    let boots = BOOTS.fetch_add(1, Ordering::Relaxed);
    // Always as long as the one before.
    let id = format!("{:08x}-0000-4000-8000-{boots:012x}\n", std::process::id());
    let written = name
        .seek(SeekFrom::Start(0))
        .and_then(|_| name.write_all(id.as_bytes()));
    written.expect("a name can be written");
}

fn plain(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed, which needs the right to mount (and loop devices, but for tmpfs): {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
