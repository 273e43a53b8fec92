//! Characters that people do not see, in text from other programs or people.

/// Whether a character is invisible in a terminal: the terminal obeys it, hides it, or moves the text behind it. These are control
/// characters; the format characters of Unicode, which change the direction of text or have no width; ends of lines and paragraphs;
/// fillers and tags. Source: Unicode 16.0, `DerivedGeneralCategory.txt` (Cc, Cf, Zl, Zp) and `PropList.txt`
/// (`Other_Default_Ignorable_Code_Point`). Variation selectors count as visible, by what they change.
///
/// ```
/// use sundown_protocol::seen::is_unseen;
///
/// assert!(is_unseen('\u{1b}') && is_unseen('\u{202e}') && is_unseen('\u{200b}'));
/// assert!(!is_unseen('é') && !is_unseen(' ') && !is_unseen('日'));
/// ```
#[must_use]
pub fn is_unseen(c: char) -> bool {
    let format = matches!(
        u32::from(c),
        0xad | 0x34f
            | 0x600..=0x605
            | 0x61c
            | 0x6dd
            | 0x70f
            | 0x890..=0x891
            | 0x8e2
            | 0x115f..=0x1160
            | 0x17b4..=0x17b5
            | 0x180e
            | 0x200b..=0x200f
            | 0x2028..=0x202e
            | 0x2060..=0x206f
            | 0x3164
            | 0xfeff
            | 0xffa0
            | 0xfff0..=0xfffb
            | 0x110bd
            | 0x110cd
            | 0x13430..=0x1343f
            | 0x1bca0..=0x1bca3
            | 0x1d173..=0x1d17a
            | 0xe0000..=0xe00ff
            | 0xe01f0..=0xe0fff
    );
    // Most text is ASCII, which needs no look at the ranges.
    c.is_control() || (!c.is_ascii() && format)
}
