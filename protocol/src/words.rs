//! The words for variants, for tests: a variant's own name in small letters with hyphens, as people and scripts see it.

use std::fmt::Debug;

/// The words of these variants: `StoreLost` is `store-lost`.
pub(crate) fn of<T: Debug>(variants: &[T]) -> Vec<String> {
    variants.iter().map(|variant| hyphenated(&format!("{variant:?}"))).collect()
}

fn hyphenated(name: &str) -> String {
    let mut word = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}
