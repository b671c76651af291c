//! The `aegis` binary.

use std::process::ExitCode;

use aegis::local::Binary;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Before anything that could make a TLS configuration.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        unreachable!("nothing installs a provider before main");
    }
    aegis_cli::main(&Binary)
}
