//! The transport from outside: real sockets on ports that the system chooses.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![expect(unreachable_pub, reason = "a test binary has no public interface")]

mod admission;
mod calls;
mod hostile;
mod lifecycle;
mod logs;
mod raw;
mod streams;
mod support;
mod trust;
