//! Tables for people: columns that fit into the terminal.
//!
//! Elsewhere than on a terminal a row is a line, however long. On a terminal columns that have no room stand on a line below,
//! indented, and the words of the last one are broken to fit: nothing is cut off.

use crate::{safe, terminal};

/// Columns whose words have a colour when somebody should look at them.
const STATES: [&str; 2] = ["state", "status"];

/// What stands between columns.
const GAP: usize = 2;

/// How far columns are indented that had no room.
const INDENT: usize = 4;

/// How much room the words of the last column need beside others, if there are so many.
const NARROW: usize = 44;

/// Rows under a heading, in columns.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    fitting(heading, rows, terminal::columns())
}

fn fitting(heading: &[&str], rows: &[Vec<String>], columns: Option<usize>) -> String {
    let plain = |row: &Vec<String>| row.iter().map(|cell| safe::line(cell)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(plain).collect();
    let places = places(heading, &rows, columns);
    let words: Vec<_> = heading.iter().map(|word| (*word).to_owned()).collect();
    let mut text = line(&words, heading, &places, columns);
    for row in &rows {
        text += &line(row, heading, &places, columns);
    }
    text
}

/// Where each column begins, and whether on a line of its own.
struct Place {
    at: usize,
    below: bool,
}

fn places(heading: &[&str], rows: &[Vec<String>], columns: Option<usize>) -> Vec<Place> {
    let mut places = Vec::with_capacity(heading.len());
    let mut at = 0;
    for (column, word) in heading.iter().enumerate() {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| terminal::width(cell));
        let width = cells.max().unwrap_or(0).max(terminal::width(word));
        let is_last = column + 1 == heading.len();
        let needed = if is_last { width.min(NARROW) } else { width };
        let below = column > 0 && columns.is_some_and(|columns| at + needed > columns);
        if below {
            at = INDENT;
        }
        places.push(Place { at, below });
        at += width + GAP;
    }
    places
}

/// A row, on as many lines as it needs.
fn line(cells: &[String], heading: &[&str], places: &[Place], columns: Option<usize>) -> String {
    let mut text = String::new();
    let mut used = 0;
    for (column, (cell, place)) in cells.iter().zip(places).enumerate() {
        let is_last = column + 1 == heading.len();
        let room = columns.filter(|_| is_last).map(|columns| columns.saturating_sub(place.at));
        let parts = match room {
            Some(room) => terminal::wrapped(cell, room.max(1)),
            None => vec![cell.clone()],
        };
        if place.below && cells[column..].iter().any(|cell| !cell.is_empty()) {
            text.push('\n');
            used = 0;
        }
        for (number, part) in parts.iter().enumerate().filter(|(_, part)| !part.is_empty()) {
            if number > 0 {
                text.push('\n');
                used = 0;
            }
            text += &" ".repeat(place.at.saturating_sub(used));
            let state = STATES.contains(&heading[column]);
            text += &if state { terminal::painted(part, cell) } else { part.clone() };
            used = place.at + terminal::width(part);
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        vec![row(["1234567890", "日本", "no such host, and no other"]), row(["1", "", ""])]
    }

    #[test]
    fn elsewhere_than_on_a_terminal_a_row_is_a_line() {
        let wanted = "entry       to    last error\n\
                      1234567890  日本  no such host, and no other\n\
                      1\n";
        assert_eq!(fitting(&["entry", "to", "last error"], &rows(), None), wanted);
    }

    #[test]
    fn the_last_column_is_broken_between_words() {
        let row = |words: &str| vec!["1".to_owned(), words.to_owned()];
        let rows = [row(["word"; 12].join(" ").as_str()), row("word")];
        let wanted = "   words\n\
                      1  word word word word word word word word word\n   word word word\n\
                      1  word\n";
        assert_eq!(fitting(&["", "words"], &rows, Some(47)), wanted);
    }

    #[test]
    fn columns_without_room_stand_below() {
        let wanted = "entry       to\n    last error\n\
                      1234567890  日本\n    no such host, and\n    no other\n\
                      1\n";
        assert_eq!(fitting(&["entry", "to", "last error"], &rows(), Some(22)), wanted);
    }
}
