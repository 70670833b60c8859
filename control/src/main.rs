//! The binary `staccato`. Everything it does is in [`staccato_control::cli`].

use std::process::ExitCode;

/// The control plane allocates on one thread what it frees on another, for every request: glibc's allocator took a third of
/// the time of submissions.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    staccato_control::cli::Cli::main()
}
