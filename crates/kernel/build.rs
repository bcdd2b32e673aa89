//! Compiles `bpf/*.bpf.c` with clang and generates the Rust side of them: programs, maps and the types of `abi.h`.

use anyhow::{Context, Result};
use libbpf_cargo::SkeletonBuilder;
use std::{env, fs, path::PathBuf};

/// The sections of `abi.h` that lay out what outlives a process (`src/pins.rs`).
const PINNED: [&str; 4] = [
    "flows",
    "balancer",
    "configuration of the programs",
    "events to user space",
];

fn main() -> Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../bpf");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    for role in ["proxy", "backend", "balancer"] {
        let source = root.join(format!("{role}.bpf.c"));
        SkeletonBuilder::new()
            .source(&source)
            .clang_args([
                format!("-I{}", root.join("include").display()),
                format!("-I/usr/include/{arch}-linux-gnu"), // asm/types.h on Debian
                "-mcpu=v3".into(),
                "-fno-strict-aliasing".into(), // as the kernel is compiled: structs are hashed as words
                "-Wall".into(),
                "-Werror".into(),
            ])
            .build_and_generate(out.join(format!("{role}.skel.rs")))
            .with_context(|| {
                format!(
                    "{}: clang could not compile it (is clang installed?)",
                    source.display()
                )
            })?;
    }
    let header = fs::read_to_string(root.join("include/abi.h"))?;
    println!("cargo:rustc-env=BATON_LAYOUT={:016x}", layout(&header)?);
    println!("cargo:rerun-if-changed={}", root.display());
    Ok(())
}

/// A number of the layouts: another one if anything but comments and white space differs (FNV-1a).
fn layout(header: &str) -> Result<u64> {
    let mut sections = String::new();
    for title in PINNED {
        let begin = format!("/* ---- {title} -");
        let (_, rest) = header
            .split_once(&begin)
            .with_context(|| format!("abi.h has no section \"{title}\""))?;
        let section = rest.split("/* ---- ").next().unwrap_or(rest);
        sections += section.split_once("*/").map_or("", |(_, text)| text);
    }
    let mut code = String::new();
    let mut rest = sections.as_str();
    while let Some((before, comment)) = rest.split_once("/*") {
        code += before;
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    code += rest;
    let words = code
        .split_whitespace()
        .flat_map(|word| word.bytes().chain([b' ']));
    Ok(words.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    }))
}
