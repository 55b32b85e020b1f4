//! What somebody may have meant.

/// The word nearest to `given`, if it is near enough to be a slip of the finger.
pub(crate) fn suggestion<'w>(given: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let given: String = given.chars().take(64).collect::<String>().to_lowercase().replace('-', "_");
    known
        .map(|word| (strsim::damerau_levenshtein(&given, &word.replace('-', "_")), word))
        .filter(|(distance, word)| *distance <= (word.chars().count() / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}
