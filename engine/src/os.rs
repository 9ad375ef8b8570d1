//! Calls to the operating system and the processor that the standard library does not have.
//! All `unsafe` of this crate stands here, behind safe functions.

use std::ffi::c_long;
use std::io;
use std::net;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use glommio::net::{TcpListener, TcpStream};
use rustix::process::{Resource, Rlimit};

#[cfg(target_env = "gnu")]
use crate::limits::{HEAP_END_FREE_BYTES_MAX, MAPPED_BYTES_MIN};

/// Bytes of `struct io_uring_params` (`linux/io_uring.h`).
const IO_URING_PARAMS_BYTES: usize = 120;

/// What the processor loads at a time.
pub const CACHE_LINE_BYTES: usize = 64;

/// Starts to load the cache line in which `place` begins, without waiting for it. Unlike a read it
/// delays nothing, so many can be under way. Does nothing on other processors than x86-64.
#[inline]
pub fn prefetch<T>(place: &T) {
    prefetch_address(std::ptr::from_ref(place).cast());
}

/// As [`prefetch`], for any address, even one where nothing is.
#[inline]
pub fn prefetch_address(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch changes no state that a program can see and never faults, whatever the
    // address (Intel SDM, volume 2, PREFETCHh).
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Bytes that an unprivileged process can still allocate in the file system of `path`. Blocks.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The number by which Linux knows the kind of file system that `path` is on: `statfs(2)`.
pub fn file_system_magic(path: &Path) -> io::Result<i64> {
    Ok(rustix::fs::statfs(path)?.f_type)
}

/// Bytes that this process may lock in memory; `None` if there is no limit.
pub fn memlock_bytes_max() -> Option<u64> {
    rustix::process::getrlimit(Resource::Memlock).current
}

/// Raises this process's own limit of open files as far as it may. Each connection is one.
pub fn raise_open_files() -> io::Result<()> {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    Ok(rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// Files that this process may have open; `None` if there is no limit.
pub fn open_files_max() -> Option<u64> {
    rustix::process::getrlimit(Resource::Nofile).current
}

/// Has each allocation of `MAPPED_BYTES_MIN` and more come from the system and go back to it when it is
/// freed. glibc's allocator begins so, but raises the bound up to 32 MiB as large ones are freed: the
/// next then come from its heaps, between small ones that stay, and what is held and what is free
/// there can add up to twice the memory that is ever in use. To be called before there are threads.
pub fn keep_large_allocations_apart() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer; glibc checks the numbers. Setting one ends the raising of both.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
        libc::mallopt(libc::M_TRIM_THRESHOLD, HEAP_END_FREE_BYTES_MAX);
    }
}

/// Gives memory that was freed back to the system. The allocator keeps it otherwise, for the next
/// time. Takes milliseconds, during which others who allocate wait.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, and glibc's allocator locks each of its arenas while it is at work.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has the kernel find out that the other side is gone: it asks after `after` without a word, and
/// then every `every`, `probes` times. What was sent and not confirmed by then ends the connection too.
pub fn keep_alive(
    stream: &TcpStream,
    after: Duration,
    every: Duration,
    probes: u32,
) -> io::Result<()> {
    use rustix::net::sockopt;
    // SAFETY: the descriptor is that of `stream`, which is borrowed for as long as this one is used.
    let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, after)?;
    sockopt::set_tcp_keepintvl(socket, every)?;
    sockopt::set_tcp_keepcnt(socket, probes)?;
    let all = after + every * probes;
    Ok(sockopt::set_tcp_user_timeout(socket, all.as_millis().try_into().unwrap_or(u32::MAX))?)
}

/// Opens an `io_uring` of one entry and closes it again.
///
/// # Errors
/// Why this process can't have one.
pub fn try_io_uring() -> io::Result<()> {
    const ENTRIES: c_long = 1;
    let mut params = [0u8; IO_URING_PARAMS_BYTES];
    // SAFETY: io_uring_setup reads and writes `IO_URING_PARAMS_BYTES` bytes, which is what `params`
    // has, and keeps no pointer to them; all zero asks for the defaults.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, params.as_mut_ptr()) };
    match RawFd::try_from(result) {
        Ok(descriptor) if descriptor >= 0 => {
            // SAFETY: the kernel has just opened `descriptor`, and nobody else knows it.
            drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
            Ok(())
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Cores that this process may run on, ascending: fewer than the machine has if it is confined by a
/// cpuset or by `taskset`.
pub fn allowed_cores() -> Vec<usize> {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else {
        return (0..std::thread::available_parallelism().map_or(1, usize::from)).collect();
    };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect()
}

/// Sets how many connections the kernel holds for a listening socket until they are accepted; the
/// standard library's choice is 128.
pub fn set_backlog(listener: &net::TcpListener, connections_max: i32) -> io::Result<()> {
    Ok(rustix::net::listen(listener, connections_max)?)
}

/// The listening socket on the executor of this thread.
///
/// # Panics
/// Outside an executor.
pub fn glommio_listener(listener: net::TcpListener) -> TcpListener {
    // SAFETY: `into_raw_fd` gives the descriptor up, so the result is its only owner.
    unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) }
}
