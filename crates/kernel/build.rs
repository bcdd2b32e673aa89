//! Compiles `bpf/*.bpf.c` with clang and generates the Rust side of them: programs, maps and the types of `abi.h`.

use anyhow::{Context, Result};
use libbpf_cargo::SkeletonBuilder;
use std::{env, path::PathBuf};

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
    println!("cargo:rerun-if-changed={}", root.display());
    Ok(())
}
