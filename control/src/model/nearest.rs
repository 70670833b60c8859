//! What somebody probably meant who wrote a name that nobody knows.

/// How alike two names must be for one to be a misspelling of the other (0 to 1): names of which only some letters are
/// the same stay below it.
const LIKENESS_MIN: f64 = 0.75;

/// The known name that is most like `name`; none where nothing known is near. Likeness is Jaro-Winkler's, which
/// forgives what typing does: letters left out, doubled or swapped, and wrong endings.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |known: &str| strsim::jaro_winkler(known, name);
    let near =
        known.into_iter().map(|known| (likeness(known), known)).filter(|(likeness, _)| *likeness >= LIKENESS_MIN);
    near.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

/// The end of a sentence that suggests the [`nearest`] name; empty where none is near.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or(String::new(), |meant| format!("; did you mean {meant}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_recognised() {
        let known = ["source_url", "source_options", "destination_url", "retries", "rate_limit"];
        for (name, meant) in [
            ("sorce_url", "source_url"),
            ("source_option", "source_options"),
            ("destinationUrl", "destination_url"),
            ("retry", "retries"),
            ("ratelimit", "rate_limit"),
        ] {
            assert_eq!(nearest(name, known), Some(meant), "{name}");
        }
        assert_eq!(did_you_mean("retry", known), "; did you mean retries?");
        assert_eq!(nearest("anything", []), None);
    }

    #[test]
    fn nothing_is_suggested_that_is_not_near() {
        let settings = ["listen", "socket", "roots", "slots", "memory", "log", "heartbeat", "lease"];
        for name in ["serve", "x", "", "gopher"] {
            assert_eq!(did_you_mean(name, settings), "", "{name}");
        }
    }
}
