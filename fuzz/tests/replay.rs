//! Every target on its corpus, and on a fixed number of inputs made from it, the same ones each time.
//!
//! A panic prints the input as a file: put it into `corpus/TARGET/` when what it found is repaired.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use baton_fuzz::{TARGETS, target};

/// Inputs made for each target.
const MADE: usize = 3000;
/// Longer ones are cut.
const LONGEST: usize = 4096;

#[test]
fn bodies() {
    replay("bodies");
}

#[test]
fn configs() {
    replay("configs");
}

#[test]
fn flows() {
    replay("flows");
}

#[test]
fn owners() {
    replay("owners");
}

#[test]
fn heads() {
    replay("heads");
}

#[test]
fn messages() {
    replay("messages");
}

#[test]
fn segments() {
    replay("segments");
}

/// No target without a test above and a corpus, no corpus without a target.
#[test]
fn every_target_has_a_corpus() {
    let folders = fs::read_dir(corpus()).unwrap();
    let mut folders: Vec<_> = folders
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(folders, names);
    let tests = include_str!("replay.rs");
    for name in names {
        assert!(tests.contains(&format!("replay(\"{name}\")")), "{name}");
    }
}

fn replay(name: &str) {
    let inputs = inputs(name);
    assert!(inputs.len() >= 10, "only {} inputs", inputs.len());
    for input in &inputs {
        try_one(name, input);
    }
    let mut random = Random(name.bytes().map(u64::from).sum());
    for _ in 0..MADE {
        try_one(name, &random.input(&inputs));
    }
}

fn try_one(name: &str, input: &[u8]) {
    let target = target(name).unwrap();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        let file = std::env::temp_dir().join(format!("baton-fuzz-{name}-crash"));
        fs::write(&file, input).unwrap();
        eprintln!("the input is {}", file.display());
        std::panic::resume_unwind(panic);
    }
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// In the order of their names: what is made of them must not depend on the file system.
fn inputs(name: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(corpus().join(name)).unwrap();
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit.max(1) as u64) as usize
    }

    /// One of `inputs`, damaged a few times, as libFuzzer does it.
    fn input(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut input = inputs[self.below(inputs.len())].clone();
        for _ in 0..=self.below(5) {
            let at = self.below(input.len());
            let end = at + self.below((input.len() - at).min(64));
            match self.below(7) {
                0 if at < input.len() => input[at] = self.below(256) as u8,
                1 if at < input.len() => input[at] ^= 1 << self.below(8),
                2 => input.insert(at, self.below(256) as u8),
                3 => drop(input.drain(at..end)),
                4 => {
                    let copy = input[at..end].to_vec();
                    let to = self.below(input.len());
                    input.splice(to..to, copy);
                }
                5 => {
                    let other = &inputs[self.below(inputs.len())];
                    let from = self.below(other.len());
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
                _ => input.truncate(end),
            }
        }
        input.truncate(LONGEST);
        input
    }
}
