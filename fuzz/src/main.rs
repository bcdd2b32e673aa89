//! The targets under libFuzzer: `BATON_FUZZ_TARGET` names one, arguments are libFuzzer's. Built by `make fuzz` with
//! `--cfg fuzzing`; otherwise a program that says so.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
static TARGET: std::sync::LazyLock<baton_fuzz::Target> = std::sync::LazyLock::new(|| {
    let name = std::env::var("BATON_FUZZ_TARGET").unwrap_or_default();
    baton_fuzz::target(&name).unwrap_or_else(|| {
        let names: Vec<_> = baton_fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
        eprintln!(
            "BATON_FUZZ_TARGET is {name:?}: set it to one of {}",
            names.join(", ")
        );
        std::process::exit(2);
    })
});

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("built without libFuzzer: run `make fuzz`");
    std::process::exit(2);
}
