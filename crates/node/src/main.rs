//! The `baton` program; see `baton --help`.

fn main() -> std::process::ExitCode {
    baton::cli::main()
}
