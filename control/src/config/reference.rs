//! The reference of all settings, for people.

use std::fmt::Write as _;

use super::keys::KEYS;

/// The reference of all settings as a Markdown table, as it stands in this crate's README.
pub fn reference_table() -> String {
    let mut table =
        String::from("| file | environment | flag | default | meaning |\n| --- | --- | --- | --- | --- |\n");
    for key in KEYS {
        let value = key.value.replace('|', "\\|");
        writeln!(
            table,
            "| `{}` | `{}` | `--{} {value}` | {} | {} |",
            key.name,
            key.variable(),
            key.flag,
            key.default_text,
            key.help
        )
        .expect("writing to a string");
    }
    table
}
