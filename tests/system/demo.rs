//! What the README's first command runs, with a small image.

use staccato_tests::binary::command;

#[test]
fn the_demo_kills_its_executor_and_completes() {
    let output = command().args(["demo", "--size", "96", "--rate", "32"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for line in ["Killed the executor", "attempt 2", "equal; crc32", "fetched twice", "holes kept", "curl -s"] {
        assert!(text.contains(line), "{line:?} is missing:\n{text}");
    }
}
