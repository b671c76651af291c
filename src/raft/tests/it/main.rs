//! Clusters in one process: real disks, real sockets, and a network that fails on demand.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![expect(unreachable_pub, reason = "a test binary has no public interface")]

mod clocks;
mod cluster;
mod elections;
mod faults;
mod journal;
mod load;
mod membership;
mod snapshots;
mod stops;
