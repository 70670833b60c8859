//! The binary `staccato-bench`. Everything it does is in [`staccato_bench::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    staccato_bench::cli::Cli::main()
}
