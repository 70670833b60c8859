//! The binary `staccato`. Everything it does is in [`staccato_control::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    staccato_control::cli::Cli::main()
}
