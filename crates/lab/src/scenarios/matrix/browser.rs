//! Section 5: a browser loads a page with images from three pools.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

use super::Ground;
use super::rotation::logged_exactly;
use crate::client::url;
use crate::cluster::requirements::require;
use crate::cluster::{Lab, POOLS};
use crate::command;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

const IMAGES: usize = 30;
const PAGE: &str = include_str!("page.html");
/// For a browser that hangs (s).
const PATIENCE: &str = "90";

pub(super) fn cases(recorder: &mut Recorder, ground: &mut Ground<'_>) -> anyhow::Result<()> {
    recorder.case("5/chromium", |counts| chromium(ground.lab()?, counts))
}

/// The page's script says of each image how large it came out: the width tells the server that has it, the height its number.
fn chromium(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    require("chromium", "chromium")?;
    // Where uploads go, below each pool's prefix.
    for (place, server) in SERVERS.iter().enumerate() {
        let (page, images) = ("put", format!("{}/put", POOLS[place]));
        for directory in [page, &images] {
            fs::create_dir_all(lab.dir(server).join(directory))?;
        }
        fs::write(lab.dir(server).join(page).join("page.html"), PAGE)?;
        for number in (place..IMAGES).step_by(POOLS.len()) {
            let image = lab.dir(server).join(&images).join(format!("{number}.bmp"));
            fs::write(image, bitmap(width(place), height(number)))?;
        }
    }
    let document = load(lab, &url(lab.vip(), "/put/page.html"))?;
    let told = document
        .split_once("sizes=\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .with_context(|| format!("the page's script did not run: {document}"))?;
    counts.transfers += 1 + IMAGES as u64;
    let sizes: Vec<&str> = told.0.split(' ').collect();
    let expected: Vec<String> = (0..IMAGES)
        .map(|number| format!("{}x{}", width(number % POOLS.len()), height(number)))
        .collect();
    let wrong = expected
        .iter()
        .enumerate()
        .filter(|(number, size)| sizes.get(*number) != Some(&size.as_str()));
    let wrong: Vec<String> = wrong
        .map(|(number, size)| format!("image {number}: {:?}, not {size}", sizes.get(number)))
        .collect();
    counts.failed += wrong.len() as u64;
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    for server in SERVERS {
        logged_exactly(lab, server, "image", IMAGES / POOLS.len())?;
    }
    Ok(format!(
        "a page and {IMAGES} images, each from the server that has it"
    ))
}

/// The document after its images have loaded. The browser's files are all in the client's directory.
fn load(lab: &Lab, url: &str) -> anyhow::Result<String> {
    let home = lab.dir("client").join("browser");
    fs::create_dir_all(&home)?;
    let mut chromium = lab.netns("client").command("timeout");
    chromium.args(["--kill-after=5", PATIENCE, "chromium"]);
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu"]);
    chromium.args(["--disable-dev-shm-usage", "--disable-breakpad"]);
    chromium.args(["--no-first-run", "--no-proxy-server"]);
    chromium.args([
        "--disable-background-networking",
        "--disable-component-update",
    ]);
    chromium.args(["--disable-sync", "--disable-extensions"]);
    chromium.arg(data_directory(&home));
    chromium.args(["--virtual-time-budget=60000", "--dump-dom", url]);
    chromium.env("HOME", &home).env("TMPDIR", &home);
    chromium
        .env("XDG_CONFIG_HOME", &home)
        .env("XDG_CACHE_HOME", &home);
    let document = command::run(&mut chromium)?;
    fs::remove_dir_all(&home)?;
    Ok(document)
}

fn data_directory(home: &Path) -> String {
    format!("--user-data-dir={}", home.join("profile").display())
}

fn width(place: usize) -> u32 {
    101 + place as u32
}

fn height(number: usize) -> u32 {
    100 + number as u32
}

/// A picture of 24 bits a pixel, uncompressed (BITMAPFILEHEADER, BITMAPINFOHEADER, rows padded to four bytes).
fn bitmap(width: u32, height: u32) -> Vec<u8> {
    const HEADERS: u32 = 54;
    let row = (3 * width).next_multiple_of(4);
    let pixels = row * height;
    let mut file = b"BM".to_vec();
    for number in [HEADERS + pixels, 0, HEADERS, 40, width, height] {
        file.extend(number.to_le_bytes());
    }
    file.extend(1u16.to_le_bytes());
    file.extend(24u16.to_le_bytes());
    for number in [0, pixels, 2835, 2835, 0, 0] {
        file.extend(u32::to_le_bytes(number));
    }
    file.extend((0..pixels).map(|at| (at % 251) as u8));
    file
}

#[cfg(test)]
mod tests {
    use super::bitmap;

    #[test]
    fn a_picture_is_as_long_as_it_says() {
        let file = bitmap(101, 7);
        assert_eq!(file.len(), 54 + 304 * 7);
        assert_eq!(file[2..6], u32::try_from(file.len()).unwrap().to_le_bytes());
    }
}
