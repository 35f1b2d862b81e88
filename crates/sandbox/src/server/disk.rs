//! The data folder: who may use it, what is read at the start, and a thread that writes and syncs.
//!
//! Files, numbered by generation: `snapshot-N` is the whole state at one moment, `log-N` the records since.
//! A new log begins before the snapshot of its generation is on disk, so the state is the newest sound
//! snapshot and every log from its number on. Older files are deleted once a newer snapshot is synced.

use crate::journal::{self, Record};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use tokio::sync::watch;

/// A snapshot is due when the log has grown by this many bytes, or by the last snapshot's size if that is more,
/// so that writing snapshots never costs more than writing the log.
const SNAPSHOT_AFTER: u64 = 16 * 1024 * 1024;

/// What a data folder held.
pub struct Found {
    /// The newest sound snapshot. A new folder has none.
    pub snapshot: Option<Vec<u8>>,
    pub records: Vec<Record>,
    /// Bytes of a record that a kill had torn, now cut off.
    pub cut: u64,
}

/// Opens a folder for one server, and reads it.
///
/// # Errors
/// When another server has it, when it can't be read or written, or when a log is damaged before its end.
pub fn open(folder: &Path) -> Result<(Disk, Found), String> {
    fs::create_dir_all(folder).map_err(|error| at(folder, "can't be created", &error))?;
    let lock = lock(folder)?;
    let found = read(folder)?;
    let newest = Files::list(folder)?.newest().unwrap_or(0);
    Ok((Disk::start(folder.to_owned(), lock, newest)?, found))
}

fn read(folder: &Path) -> Result<Found, String> {
    let files = Files::list(folder)?;
    let (generation, snapshot) = files.newest_snapshot()?;
    let mut found = Found { snapshot, records: Vec::new(), cut: 0 };
    let logs: Vec<_> = files.logs.range(generation..).collect();
    for (position, (_, path)) in logs.iter().enumerate() {
        let bytes = fs::read(path).map_err(|error| at(path, "can't be read", &error))?;
        let read = journal::read(&bytes);
        let torn = (bytes.len() - read.sound) as u64;
        if torn > 0 {
            let later =
                logs[position + 1..].iter().any(|(_, path)| fs::metadata(path).is_ok_and(|it| it.len() > 0));
            if later {
                return Err(format!(
                    "{} is damaged at byte {} although later logs follow. Nothing was changed. Move the folder away \
                     to start anew, or put a sound copy back.",
                    path.display(),
                    read.sound
                ));
            }
            cut(path, read.sound as u64)?;
            found.cut += torn;
        }
        found.records.extend(read.records);
    }
    Ok(found)
}

fn at(path: &Path, what: &str, error: &io::Error) -> String {
    format!("{} {what}: {error}", path.display())
}

fn lock(folder: &Path) -> Result<File, String> {
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| at(&path, "can't be opened", &error))?;
    file.try_lock().map_err(|_| {
        format!(
            "{} is used by another tinkex-sandbox. Stop it, or give this one another --data.",
            folder.display()
        )
    })?;
    Ok(file)
}

fn cut(path: &Path, length: u64) -> Result<(), String> {
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|file| file.set_len(length).and_then(|()| file.sync_all()))
        .map_err(|error| at(path, "can't be cut to its sound part", &error))
}

struct Files {
    snapshots: BTreeMap<u64, PathBuf>,
    logs: BTreeMap<u64, PathBuf>,
}

impl Files {
    fn list(folder: &Path) -> Result<Self, String> {
        let mut files = Self { snapshots: BTreeMap::new(), logs: BTreeMap::new() };
        let entries = fs::read_dir(folder).map_err(|error| at(folder, "can't be listed", &error))?;
        for entry in entries {
            let path = entry.map_err(|error| at(folder, "can't be listed", &error))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let number =
                |prefix| name.strip_prefix(prefix).and_then(|digits: &str| digits.parse::<u64>().ok());
            if let Some(generation) = number("snapshot-") {
                files.snapshots.insert(generation, path);
            } else if let Some(generation) = number("log-") {
                files.logs.insert(generation, path);
            }
        }
        Ok(files)
    }

    fn newest(&self) -> Option<u64> {
        self.snapshots.keys().chain(self.logs.keys()).max().copied()
    }

    /// A snapshot appears under its name only when it is whole and synced, so the newest one is the one to take.
    fn newest_snapshot(&self) -> Result<(u64, Option<Vec<u8>>), String> {
        match self.snapshots.last_key_value() {
            None => Ok((0, None)),
            Some((generation, path)) => {
                let bytes = fs::read(path).map_err(|error| at(path, "can't be read", &error))?;
                Ok((*generation, Some(bytes)))
            }
        }
    }
}

enum Order {
    Append(Vec<Record>, u64),
    Snapshot(Vec<u8>),
    /// Answered when all that was ordered before is on disk.
    Flush(mpsc::Sender<()>),
}

/// The writing side. What is appended is written in order; many records share one sync.
pub struct Disk {
    folder: PathBuf,
    orders: mpsc::Sender<Order>,
    appended: AtomicU64,
    synced: watch::Receiver<u64>,
    since_snapshot: Arc<AtomicU64>,
    last_snapshot: AtomicU64,
}

/// A place in the log: an answer that depends on it waits until it is [`Disk::synced`].
#[derive(Clone, Copy, Debug)]
pub struct Place(u64);

impl Disk {
    fn start(folder: PathBuf, lock: File, newest: u64) -> Result<Self, String> {
        let (orders, inbox) = mpsc::channel();
        let (sync, synced) = watch::channel(0);
        let since_snapshot = Arc::new(AtomicU64::new(0));
        let log = log_file(&folder, newest).map_err(|error| at(&folder, "can't be written", &error))?;
        let mut writer = Writer {
            folder: folder.clone(),
            _lock: lock,
            generation: newest,
            log,
            sync,
            since_snapshot: since_snapshot.clone(),
        };
        std::thread::spawn(move || {
            if let Err(error) = writer.run(&inbox) {
                // What was answered is on disk, and nothing more may be answered: the safe thing is to be gone.
                eprintln!("tinkex-sandbox: {} can't be written: {error}. Stopping.", writer.folder.display());
                std::process::exit(74);
            }
        });
        Ok(Self {
            folder,
            orders,
            appended: AtomicU64::new(0),
            synced,
            since_snapshot,
            last_snapshot: AtomicU64::new(0),
        })
    }

    /// Hands records over, in order. To be called under the lock under which they were made.
    pub fn append(&self, records: Vec<Record>) {
        if !records.is_empty() {
            let place = self.appended.fetch_add(1, Ordering::SeqCst) + 1;
            self.order(Order::Append(records, place));
        }
    }

    /// The place after all that was appended so far.
    pub fn place(&self) -> Place {
        Place(self.appended.load(Ordering::SeqCst))
    }

    /// Waits until everything up to `place` survives a kill.
    pub async fn synced(&self, place: Place) {
        let mut synced = self.synced.clone();
        // An error means that the writer is gone, and with it the process.
        let _ = synced.wait_for(|done| *done >= place.0).await;
    }

    pub fn wants_snapshot(&self) -> bool {
        let enough = SNAPSHOT_AFTER.max(self.last_snapshot.load(Ordering::SeqCst));
        self.since_snapshot.load(Ordering::SeqCst) >= enough
    }

    /// Hands over the state as it is after all that was appended. Under the same lock as [`Disk::append`].
    pub fn snapshot(&self, state: Vec<u8>) {
        self.last_snapshot.store(state.len() as u64, Ordering::SeqCst);
        self.since_snapshot.store(0, Ordering::SeqCst);
        self.order(Order::Snapshot(state));
    }

    /// What a server would find that opened the folder now. For a restart within the process: flush first.
    pub fn read_again(&self) -> Result<Found, String> {
        read(&self.folder)
    }

    /// Blocks until all that was handed over is on disk.
    pub fn flush(&self) {
        let (done, wait) = mpsc::channel();
        self.order(Order::Flush(done));
        let _ = wait.recv();
    }

    fn order(&self, order: Order) {
        // The writer ends only with the process.
        let _ = self.orders.send(order);
    }
}

fn log_file(folder: &Path, generation: u64) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(folder.join(format!("log-{generation}")))?;
    sync_folder(folder)?;
    Ok(file)
}

/// A new name is on disk when its folder is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

struct Writer {
    folder: PathBuf,
    /// Held open: closing it would let another server in.
    _lock: File,
    generation: u64,
    log: File,
    sync: watch::Sender<u64>,
    since_snapshot: Arc<AtomicU64>,
}

impl Writer {
    fn run(&mut self, inbox: &mpsc::Receiver<Order>) -> io::Result<()> {
        let mut bytes = Vec::new();
        while let Ok(first) = inbox.recv() {
            let mut upto = None;
            let mut after = None;
            for order in std::iter::once(first).chain(std::iter::from_fn(|| inbox.try_recv().ok())) {
                match order {
                    Order::Append(records, place) => {
                        records.iter().for_each(|record| journal::write(record, &mut bytes));
                        upto = Some(place);
                    }
                    other => {
                        after = Some(other);
                        break;
                    }
                }
            }
            if let Some(place) = upto {
                self.log.write_all(&bytes)?;
                self.log.sync_data()?;
                self.since_snapshot.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                bytes.clear();
                self.sync.send_replace(place);
            }
            match after {
                Some(Order::Snapshot(state)) => self.snapshot(&state)?,
                Some(Order::Flush(done)) => drop(done.send(())),
                Some(Order::Append(..)) | None => {}
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, state: &[u8]) -> io::Result<()> {
        let generation = self.generation + 1;
        let unfinished = self.folder.join("unfinished");
        let mut file = File::create(&unfinished)?;
        file.write_all(state)?;
        file.sync_all()?;
        // From here on a reader needs the new log only, so that must exist before the name does.
        self.log = log_file(&self.folder, generation)?;
        fs::rename(&unfinished, self.folder.join(format!("snapshot-{generation}")))?;
        sync_folder(&self.folder)?;
        let files = Files::list(&self.folder).map_err(io::Error::other)?;
        for (_, path) in files.snapshots.range(..generation).chain(files.logs.range(..generation)) {
            fs::remove_file(path)?;
        }
        self.generation = generation;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Fact;
    use std::time::Duration;

    /// A new folder, removed when dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tinkex-disk-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let names =
                fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.filter(|name| name != "lock").collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn record(number: u64) -> Record {
        Record { at: Duration::from_secs(number), fact: Fact::SessionEnded { session: number.to_string() } }
    }

    #[test]
    fn what_was_appended_since_the_newest_snapshot_is_found_again() {
        let folder = Folder::new("found");
        let (disk, found) = open(&folder.0).unwrap();
        assert!(found.snapshot.is_none() && found.records.is_empty());
        disk.snapshot(b"first".to_vec());
        disk.append(vec![record(1)]);
        disk.snapshot(b"second".to_vec());
        disk.append(vec![record(2), record(3)]);
        disk.append(vec![record(4)]);
        disk.flush();
        let found = disk.read_again().unwrap();
        assert_eq!(found.snapshot.as_deref(), Some(&b"second"[..]));
        assert_eq!(found.records, [2, 3, 4].map(record));
        assert_eq!(folder.names(), ["log-2", "snapshot-2"], "older files are gone");
    }

    #[test]
    fn a_kill_between_a_new_log_and_its_snapshot_loses_nothing() {
        let folder = Folder::new("between");
        let (disk, _) = open(&folder.0).unwrap();
        disk.snapshot(b"first".to_vec());
        disk.append(vec![record(1)]);
        disk.flush();
        fs::write(folder.0.join("log-2"), b"").unwrap();
        fs::write(folder.0.join("unfinished"), b"sec").unwrap();
        let found = disk.read_again().unwrap();
        assert_eq!(found.snapshot.as_deref(), Some(&b"first"[..]));
        assert_eq!(found.records, [record(1)]);
    }

    #[test]
    fn a_log_that_is_damaged_before_later_logs_is_refused_and_left_alone() {
        let folder = Folder::new("damaged");
        let mut bytes = Vec::new();
        journal::write(&record(1), &mut bytes);
        fs::write(folder.0.join("log-1"), &bytes[..bytes.len() - 1]).unwrap();
        fs::write(folder.0.join("log-2"), &bytes).unwrap();
        let Err(error) = open(&folder.0) else { panic!("it was taken") };
        assert!(error.contains("log-1 is damaged at byte 0"), "{error}");
        assert_eq!(fs::read(folder.0.join("log-1")).unwrap().len(), bytes.len() - 1);
    }

    #[test]
    fn a_snapshot_is_due_when_the_log_has_grown() {
        let folder = Folder::new("due");
        let (disk, _) = open(&folder.0).unwrap();
        disk.snapshot(Vec::new());
        assert!(!disk.wants_snapshot());
        let session = "x".repeat(SNAPSHOT_AFTER as usize);
        disk.append(vec![Record { at: Duration::ZERO, fact: Fact::SessionEnded { session } }]);
        disk.flush();
        assert!(disk.wants_snapshot());
        disk.snapshot(Vec::new());
        assert!(!disk.wants_snapshot());
        // The folder goes with this test, and a writer that could not write would end the process.
        disk.flush();
    }
}
