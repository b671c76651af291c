//! The simulation's scenarios, its soak, and the planted bugs that it must catch.

#![allow(clippy::unwrap_used, clippy::panic)]

mod agreement;
mod canaries;
mod disks;
mod soak;
mod support;
mod views;
mod watermarks;
