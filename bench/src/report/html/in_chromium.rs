//! The page of [`specimen`] in a real browser: it loads without errors and without asking anybody for anything,
//! everything is there and has a size, and nothing sticks out, on a desk and on a phone.
//!
//! `TEST_PAGE_FOLDER=/some/folder` keeps the page and what it looks like, light and dark, wide and narrow and printed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::report::{html::page, specimen};

/// Measures the page from within, in the test only, and writes what it found where `--dump-dom` shows it.
const MEASURE: &str = r#"<script>
window.failures = [];
addEventListener("error", event => failures.push(String(event.message || event.target.outerHTML)), true);
addEventListener("load", () => {
  const boxes = [...document.querySelectorAll("section, table, svg.plot, figure, h1, h2, h3, h4, nav a")].map(element => {
    const box = element.getBoundingClientRect();
    return {what: element.tagName.toLowerCase(), name: (element.id || element.textContent).trim().slice(0, 60),
            width: box.width, height: box.height, right: box.right, scrolls: !!element.closest(".scrolls")};
  });
  // Text of a plot must stay within it, and must not lie on other text of it.
  const overlaps = [], outside = [];
  for (const plot of document.querySelectorAll("svg.plot")) {
    const frame = plot.getBoundingClientRect();
    const texts = [...plot.querySelectorAll("text")].map(text => [text.textContent.trim(), text.getBoundingClientRect()]);
    texts.forEach(([text, box], index) => {
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
        outside.push(plot.getAttribute("aria-label") + ": " + text);
      for (const [other, its] of texts.slice(index + 1))
        if (box.left < its.right && its.left < box.right && box.top + 2 < its.bottom && its.top + 2 < box.bottom)
          overlaps.push(plot.getAttribute("aria-label") + ": " + text + " / " + other);
    });
  }
  const found = {boxes, overlaps, outside, failures,
    requests: performance.getEntriesByType("resource").map(entry => entry.name),
    scripts: document.querySelectorAll("script, link, img, iframe, object").length,
    page_width: document.documentElement.scrollWidth, window_width: document.documentElement.clientWidth};
  const told = document.createElement("pre");
  told.id = "found-by-the-test";
  told.textContent = JSON.stringify(found);
  document.body.append(told);
});
</script>"#;

#[derive(Debug, Deserialize)]
struct Found {
    boxes: Vec<Laid>,
    overlaps: Vec<String>,
    outside: Vec<String>,
    failures: Vec<String>,
    requests: Vec<String>,
    /// The test's own script is one.
    scripts: usize,
    page_width: f64,
    window_width: f64,
}

/// An element as it was laid out.
#[derive(Debug, Deserialize)]
struct Laid {
    what: String,
    name: String,
    width: f64,
    height: f64,
    right: f64,
    /// Whether it lies in a part that scrolls by itself.
    scrolls: bool,
}

fn chromium(folder: &Path, arguments: &[&str], page: &Path) -> (String, String) {
    let program =
        ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| crate::contestants::installed(name));
    let program = program.expect("this test needs the package chromium (tests/run installs it)");
    let profile = tempfile::tempdir_in(folder).unwrap();
    let output = Command::new(program)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-dev-shm-usage",
        ])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=5000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

fn measured(folder: &Path, page: &Path, size: &str) -> Found {
    let (document, log) = chromium(folder, &["--dump-dom", &format!("--window-size={size}")], page);
    let complaints: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    let start = document.find(r#"<pre id="found-by-the-test">"#).expect("the page has loaded");
    let json = document[start..].split_once('>').unwrap().1.split_once("</pre>").unwrap().0;
    let json = json.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

#[test]
fn a_browser_shows_everything_and_nothing_sticks_out() {
    let scratch = tempfile::tempdir().unwrap();
    let text = page(specimen::records());
    let plain = scratch.path().join("page.html");
    fs::write(&plain, &text).unwrap();
    let with_measure = scratch.path().join("measured.html");
    // In the head, so that it hears of errors from the beginning.
    fs::write(&with_measure, text.replacen("<title>", &format!("{MEASURE}<title>"), 1)).unwrap();
    if let Some(kept) = std::env::var_os("TEST_PAGE_FOLDER").map(PathBuf::from) {
        keep(scratch.path(), &plain, &kept);
    }

    for size in ["1280,1000", "1920,1200", "390,844"] {
        let found = measured(scratch.path(), &with_measure, size);
        assert!(
            found.failures.is_empty() && found.requests.is_empty(),
            "{size}: {:?} {:?}",
            found.failures,
            found.requests
        );
        assert_eq!(found.scripts, 1, "the page has no scripts and loads nothing");
        assert!(found.page_width <= found.window_width, "{size}: {} of {}", found.page_width, found.window_width);
        assert!(found.outside.is_empty(), "{size}: text outside of its plot: {:#?}", found.outside);
        assert!(found.overlaps.is_empty(), "{size}: text on text: {:#?}", found.overlaps);
        for laid in &found.boxes {
            let folded = laid.what == "table" && laid.name.starts_with("Stage");
            assert!(folded || (laid.width > 0.0 && laid.height > 0.0), "{size}: {laid:?} has no size");
            assert!(laid.scrolls || laid.right <= found.window_width + 0.5, "{size}: {laid:?} sticks out");
        }
        let count = |what: &str| found.boxes.iter().filter(|laid| laid.what == what).count();
        let names: Vec<&str> = found.boxes.iter().map(|laid| laid.name.as_str()).collect();
        for case in ["disk-read", "processor", "file-to-file", "zero-to-file", "submit"] {
            assert!(names.contains(&format!("case-{case}").as_str()), "{case}: {names:?}");
        }
        // Strips: two of the machine, two states of memory. Stages: two. Timelines: six contestants in two states, two
        // of the machine. The sweep: chunk size and depth by lane. Clients. Latency.
        assert_eq!(count("svg"), 4 + 2 + 12 + 2 + 4 + 1 + 1, "{names:?}");
        // The machine; the summary of three cases; the groups of three; the two sweeps; seconds in stages twice.
        assert_eq!(count("table"), 1 + 3 + 4 + 2 + 2, "{names:?}");
    }
}

fn keep(scratch: &Path, page: &Path, kept: &Path) {
    fs::create_dir_all(kept).unwrap();
    fs::copy(page, kept.join("page.html")).unwrap();
    for (name, size, dark) in [("light", "1280,6000", false), ("dark", "1280,6000", true), ("phone", "390,9000", false)]
    {
        let picture = format!("--screenshot={}", kept.join(name).with_extension("png").display());
        let size = format!("--window-size={size}");
        let mut arguments = vec![picture.as_str(), size.as_str()];
        if dark {
            arguments.push("--blink-settings=preferredColorScheme=0");
        }
        chromium(scratch, &arguments, page);
    }
    let print = format!("--print-to-pdf={}", kept.join("print.pdf").display());
    chromium(scratch, &[&print, "--no-pdf-header-footer"], page);
}
