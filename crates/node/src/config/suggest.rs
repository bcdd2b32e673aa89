//! "Did you mean": the known name that a mistyped one is nearest to.

/// The candidate that is nearest to `word`, if it is near for its length: a slip in three letters, and one more.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= candidate.len() / 3 + 1 && *distance < word.len()
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance: insertions, deletions and substitutions of characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let keys = ["address", "admin", "interfaces", "roles"];
        assert_eq!(nearest("adress", keys), Some("address"));
        assert_eq!(nearest("interface", keys), Some("interfaces"));
        assert_eq!(nearest("role", keys), Some("roles"));
        assert_eq!(nearest("wbe", ["inner", "web"]), Some("web"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
