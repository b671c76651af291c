//! A committee under a seeded network, disks and clocks, with validators that lie.
