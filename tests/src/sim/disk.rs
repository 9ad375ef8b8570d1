//! Disk at byte level that loses power, lies, fails and fills. Implements the engine's seam.
//!
//! Each operation takes virtual time, so that several in flight complete out of order, and goes on
//! even if its caller stops waiting. Starting and completing an operation are the two *boundaries*
//! at which the power can fail; a completed operation's caller has not heard of it then.

use std::cell::{Ref, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Poll, Waker};

use walengine::runtime::Runtime;
use walengine::storage::disk::{BLOCK_BYTES, Disk, DiskFile};

use super::faults::{Effect, Faults, OpClass};
use super::media::{InFlight, Media, Ticket};
use super::names::Inode;
use super::rng::Rng;
use super::runtime::SimRuntime;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named like the methods of the seam")]
pub enum OpKind {
    Open,
    Create,
    CreateDir,
    Rename,
    Remove,
    SyncDir,
    List,
    FreeBytes,
    Write,
    WriteDurable,
    Read,
    Sync,
    Len,
}

/// One operation, as recorded.
#[derive(Clone, Debug)]
pub struct Op {
    /// Counted from 1 in the life of the disk since its last crash.
    pub number: u64,
    /// What it does.
    pub kind: OpKind,
    /// On which name; of a rename the new one, of a file operation the file's name at its start.
    pub path: PathBuf,
    /// Number of the file, which outlives its name; 0 for an operation on names.
    pub file: u64,
    /// Where in the file.
    pub offset: u64,
    /// How much.
    pub bytes: u64,
    /// It has ended.
    pub completed: bool,
    /// It has ended with an error of this kind.
    pub error: Option<io::ErrorKind>,
}

/// Which half of an operation a boundary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The device has it and has not finished.
    Submitted,
    /// The device has finished and the caller does not know.
    Completed,
}

/// Where the power failed.
#[derive(Clone, Debug)]
pub struct CrashSite {
    /// In which operation.
    pub kind: OpKind,
    /// On which name.
    pub path: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// In which half.
    pub phase: Phase,
    /// It was a write of zeros.
    pub zeros: bool,
}

/// Handle to the disk.
#[derive(Clone)]
pub struct SimDisk {
    runtime: SimRuntime,
    media: Rc<RefCell<Media>>,
}

/// Open file.
pub struct SimFile {
    disk: SimDisk,
    inode: Inode,
    path: PathBuf,
}

/// Memory aligned to [`BLOCK_BYTES`], filled with a pattern, so that nobody relies on zeros.
pub struct SimBuffer {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl SimBuffer {
    /// A buffer of `bytes` bytes, a multiple of [`BLOCK_BYTES`].
    pub fn new(bytes: usize) -> Self {
        assert_aligned(bytes as u64);
        let memory = vec![0xa5; bytes + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        Self { memory, start, bytes }
    }
}

impl AsRef<[u8]> for SimBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.bytes]
    }
}

impl AsMut<[u8]> for SimBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.bytes]
    }
}

impl SimDisk {
    /// An empty disk whose every choice follows from `seed`.
    pub fn new(runtime: &SimRuntime, seed: u64) -> Self {
        Self { runtime: runtime.clone(), media: Rc::new(RefCell::new(Media::new(seed))) }
    }

    /// Cuts the power and turns it on again: what is left, on a fresh runtime. The old runtime is
    /// halted; operations and tasks of the old life do nothing any more.
    #[must_use]
    pub fn crash(&self, runtime: &SimRuntime, seed: u64) -> Self {
        self.runtime.halt();
        let media = self.media.borrow().after_crash(seed);
        Self { runtime: runtime.clone(), media: Rc::new(RefCell::new(media)) }
    }

    /// The same files, all durable, on a fresh runtime: an orderly shutdown, or a copy to harm.
    #[must_use]
    pub fn copy(&self, runtime: &SimRuntime) -> Self {
        let copy = Self::new(runtime, 0);
        copy.set_faults(|faults| *faults = self.media.borrow().faults.clone());
        for (path, bytes) in self.image() {
            copy.install(&path, bytes);
        }
        copy
    }

    /// The runtime that it takes its time from.
    pub fn runtime(&self) -> &SimRuntime {
        &self.runtime
    }

    /// Changes the faults from now on.
    pub fn set_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.media.borrow_mut().faults);
    }

    /// Does `effect` to the `nth` operation of `class` from now, counted from 1.
    pub fn plan(&self, class: OpClass, nth: u64, effect: Effect) {
        self.media.borrow_mut().plan(class, nth, effect);
    }

    /// Does `effect` to the `nth` operation from now whose path holds `part`, counted from 1.
    pub fn plan_at_path(&self, part: &'static str, nth: u64, effect: Effect) {
        self.media.borrow_mut().plan_at_path(part, nth, effect);
    }

    /// Operations to which something planned has happened since the last crash.
    pub fn failed(&self) -> Vec<(OpKind, PathBuf, Effect)> {
        self.media.borrow().failed.clone()
    }

    /// Forgets every plan.
    pub fn plan_nothing(&self) {
        self.media.borrow_mut().plan_nothing();
    }

    /// Operations of `class` since the last crash.
    pub fn count(&self, class: OpClass) -> u64 {
        self.media.borrow().count(class)
    }

    /// Boundaries passed since the last crash.
    pub fn boundaries(&self) -> u64 {
        self.media.borrow().boundaries
    }

    /// The power fails at the `nth` boundary from now, counted from 1.
    pub fn crash_at(&self, nth: u64) {
        let mut media = self.media.borrow_mut();
        media.crash_at = Some(media.boundaries + nth);
    }

    /// The power fails no more by itself.
    pub fn crash_never(&self) {
        let mut media = self.media.borrow_mut();
        (media.crash_at, media.crash_at_path) = (None, None);
    }

    /// The power fails at the `nth` boundary from now whose path holds `part`, counted from 1.
    pub fn crash_at_path(&self, part: &'static str, nth: u64) {
        self.media.borrow_mut().crash_at_path = Some((part, nth));
    }

    /// Where the power failed.
    pub fn crash_site(&self) -> Option<CrashSite> {
        self.media.borrow().crash_site.clone()
    }

    /// Records operations from now on.
    pub fn record_ops(&self) {
        self.media.borrow_mut().ops = Some(Vec::new());
    }

    /// Operations recorded so far.
    pub fn ops(&self) -> Vec<Op> {
        self.media.borrow().ops.clone().unwrap_or_default()
    }

    /// Every file as readers see it.
    pub fn image(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let media = self.media.borrow();
        let files = media.names.files();
        files.map(|(path, inode)| (path.into(), media.files[&inode].bytes().to_vec())).collect()
    }

    /// One file as readers see it.
    ///
    /// # Panics
    /// If there is none.
    pub fn bytes(&self, path: &Path) -> Ref<'_, [u8]> {
        Ref::map(self.media.borrow(), |media| {
            let inode = media.names.file(path).expect("the file is there");
            media.files[&inode].bytes()
        })
    }

    /// Looks at what of a file no power loss takes away; `None` if there is no such file.
    pub fn with_durable<T>(&self, path: &Path, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let media = self.media.borrow();
        let inode = media.names.file(path).ok()?;
        Some(look(media.files[&inode].durable_bytes()))
    }

    /// Bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        self.media.borrow().used_bytes()
    }

    /// Changes a file's bytes at rest, durable ones too.
    ///
    /// # Panics
    /// If there is none.
    pub fn edit(&self, path: &Path, change: impl Fn(&mut Vec<u8>)) {
        let mut media = self.media.borrow_mut();
        let inode = media.names.file(path).expect("the file is there");
        media.content(inode).edit(change);
    }

    /// Flips `bits` random bits at rest, in any files.
    pub fn rot(&self, bits: usize, seed: u64) {
        let mut rng = Rng::new(seed);
        let files: Vec<_> =
            self.image().into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
        for _ in 0..bits {
            let (path, bytes) = &files[rng.index(files.len())];
            let bit = rng.index(bytes.len() * 8);
            self.edit(path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        }
    }

    /// Puts a durable file there, with the directories above it.
    pub fn install(&self, path: &Path, bytes: Vec<u8>) {
        self.media.borrow_mut().install(path, bytes);
    }

    /// Puts a durable directory there, with those above it.
    pub fn install_dir(&self, path: &Path) {
        self.media.borrow_mut().names.install(path, None);
    }

    /// Runs one operation on the device: its start now, its end in a task of its own.
    async fn perform<T: 'static>(
        &self,
        mut op: Op,
        in_flight: Option<InFlight>,
        finish: impl FnOnce(&mut Media, &Ticket) -> io::Result<T> + 'static,
    ) -> io::Result<T> {
        if self.runtime.halted() {
            return pending().await;
        }
        let ticket = self.media.borrow_mut().begin(&mut op, in_flight);
        if self.boundary(ticket.number, &op, Phase::Submitted) {
            return pending().await;
        }
        let slot = Rc::new(RefCell::new((None, None::<Waker>)));
        let (disk, answer) = (self.clone(), slot.clone());
        self.runtime.spawn(async move {
            disk.runtime.sleep(ticket.latency).await;
            let result = finish(&mut disk.media.borrow_mut(), &ticket);
            disk.media.borrow_mut().end(&ticket, &result);
            disk.runtime.note(ticket.number);
            if disk.boundary(ticket.number, &op, Phase::Completed) {
                return;
            }
            let waker = {
                let mut answer = answer.borrow_mut();
                answer.0 = Some(result);
                answer.1.take()
            };
            waker.into_iter().for_each(Waker::wake);
        });
        poll_fn(move |context| {
            let mut slot = slot.borrow_mut();
            if let Some(result) = slot.0.take() {
                return Poll::Ready(result);
            }
            slot.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Counts a boundary; true if that was the end.
    fn boundary(&self, number: u64, op: &Op, phase: Phase) -> bool {
        let ends = self.media.borrow_mut().boundary(number, op, phase);
        if ends {
            self.runtime.halt();
        }
        ends
    }

    /// An operation on names.
    fn perform_named<T: 'static>(
        &self,
        kind: OpKind,
        path: &Path,
        finish: impl FnOnce(&mut Media, &PathBuf) -> io::Result<T> + 'static,
    ) -> impl Future<Output = io::Result<T>> {
        let name = path.to_path_buf();
        self.perform(op(kind, path), None, move |media, ticket| {
            Media::refuse(ticket)?;
            finish(media, &name)
        })
    }

    fn file(&self, path: &Path, inode: Inode) -> SimFile {
        SimFile { disk: self.clone(), inode, path: path.into() }
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Buffer = SimBuffer;

    fn buffer(&self, bytes: usize) -> SimBuffer {
        SimBuffer::new(bytes)
    }

    async fn open(&self, path: &Path) -> io::Result<SimFile> {
        let found = |media: &mut Media, path: &PathBuf| media.names.file(path);
        Ok(self.file(path, self.perform_named(OpKind::Open, path, found).await?))
    }

    async fn create(&self, path: &Path, bytes: u64) -> io::Result<SimFile> {
        assert_aligned(bytes);
        let create = move |media: &mut Media, path: &PathBuf| media.create(path, bytes);
        Ok(self.file(path, self.perform_named(OpKind::Create, path, create).await?))
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.perform_named(OpKind::CreateDir, path, |media, path| media.names.link_dir(path)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let from = from.to_path_buf();
        let rename = move |media: &mut Media, to: &PathBuf| media.names.rename(&from, to);
        self.perform_named(OpKind::Rename, to, rename).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.perform_named(OpKind::Remove, path, |media, path| media.names.unlink(path)).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let before = self.media.borrow().names.changes();
        let sync = move |media: &mut Media, path: &PathBuf| media.names.sync(path, before);
        self.perform_named(OpKind::SyncDir, path, sync).await
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.perform_named(OpKind::List, path, |media, path| media.names.list(path)).await
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        let free = |media: &mut Media, _: &PathBuf| Ok(media.free_bytes());
        self.perform_named(OpKind::FreeBytes, Path::new(""), free).await
    }
}

impl SimFile {
    fn op(&self, kind: OpKind) -> Op {
        Op { file: self.inode.0, ..op(kind, &self.path) }
    }

    async fn write_as(&self, kind: OpKind, buffer: Rc<SimBuffer>, offset: u64) -> io::Result<()> {
        let bytes = (*buffer).as_ref().len() as u64;
        assert_aligned(bytes);
        assert_aligned(offset);
        let op = Op { offset, bytes, ..self.op(kind) };
        let in_flight = InFlight { inode: self.inode, offset, buffer };
        let durable = kind == OpKind::WriteDurable;
        let finish = move |media: &mut Media, ticket: &Ticket| media.finish_write(ticket, durable);
        self.disk.perform(op, Some(in_flight), finish).await
    }
}

impl DiskFile for SimFile {
    type Buffer = SimBuffer;

    async fn write(&self, buffer: Rc<SimBuffer>, offset: u64) -> io::Result<()> {
        self.write_as(OpKind::Write, buffer, offset).await
    }

    async fn write_durable(&self, buffer: Rc<SimBuffer>, offset: u64) -> io::Result<()> {
        self.write_as(OpKind::WriteDurable, buffer, offset).await
    }

    async fn read(&self, mut buffer: SimBuffer, offset: u64) -> io::Result<SimBuffer> {
        assert_aligned(offset);
        let bytes = buffer.as_ref().len() as u64;
        let (inode, op) = (self.inode, Op { offset, bytes, ..self.op(OpKind::Read) });
        let finish = move |media: &mut Media, ticket: &Ticket| {
            media.finish_read(ticket, inode, offset, buffer.as_mut())?;
            Ok(buffer)
        };
        self.disk.perform(op, None, finish).await
    }

    async fn sync(&self) -> io::Result<()> {
        let inode = self.inode;
        let before = self.disk.media.borrow_mut().content(inode).writes();
        let finish =
            move |media: &mut Media, ticket: &Ticket| media.finish_sync(ticket, inode, before);
        self.disk.perform(self.op(OpKind::Sync), None, finish).await
    }

    async fn len(&self) -> io::Result<u64> {
        let inode = self.inode;
        let len =
            move |media: &mut Media, _: &PathBuf| Ok(media.content(inode).bytes().len() as u64);
        self.disk.perform_named(OpKind::Len, &self.path, len).await
    }
}

fn op(kind: OpKind, path: &Path) -> Op {
    Op {
        number: 0,
        kind,
        path: path.into(),
        file: 0,
        offset: 0,
        bytes: 0,
        completed: false,
        error: None,
    }
}

fn assert_aligned(bytes: u64) {
    assert!(bytes.is_multiple_of(BLOCK_BYTES as u64), "{bytes} is not in whole blocks");
}
