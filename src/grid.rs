//! Rows in columns that fit a width: a cell that has no room ends in `…`, and every row is one line.

use crate::terminal::{clip, width};

/// What stands between columns.
const GAP: usize = 2;

/// A column: its title, and how narrow and how wide it may be. The last one takes the rest of the line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) least: usize,
    pub(crate) most: usize,
}

pub(crate) const fn column(title: &'static str, least: usize, most: usize) -> Column {
    Column { title, least, most }
}

/// Columns with their widths. Those in which nothing stands are left out: their width is zero. The last ones are left out where there is
/// no room for all at their narrowest.
pub(crate) struct Grid(Vec<usize>);

impl Grid {
    pub(crate) fn new(columns: &[Column], rows: &[&[String]], room: usize) -> Self {
        let mut widths: Vec<_> = columns
            .iter()
            .enumerate()
            .map(|(place, column)| {
                let cells = rows.iter().filter_map(|row| row.get(place)).map(|cell| width(cell));
                match cells.max().unwrap_or(0) {
                    0 => 0,
                    widest => widest.max(width(column.title)).min(column.most),
                }
            })
            .collect();
        loop {
            let shown = widths.iter().filter(|width| **width > 0).count();
            let needed = widths.iter().sum::<usize>() + GAP * shown.saturating_sub(1);
            let over = needed.saturating_sub(room);
            let spare = |place: &usize| widths[*place].saturating_sub(columns[*place].least);
            let widest = (0..widths.len()).max_by_key(spare).filter(|place| spare(place) > 0);
            match widest {
                _ if over == 0 => return Self(widths),
                Some(place) => widths[place] -= 1,
                // Less is read better than pieces of everything.
                None if shown > 1 => {
                    let last = widths.iter().rposition(|width| *width > 0).unwrap_or(0);
                    let fewer = columns[..last].to_vec();
                    return Self::new(&fewer, rows, room);
                }
                None => return Self(widths),
            }
        }
    }

    /// The titles.
    pub(crate) fn heading(&self, columns: &[Column]) -> String {
        let titles: Vec<_> = columns.iter().map(|column| column.title.to_owned()).collect();
        self.line(&titles, |_, text| text)
    }

    /// A row. `paint` may give a cell a colour, once it has its width.
    pub(crate) fn line(&self, cells: &[String], paint: impl Fn(usize, String) -> String) -> String {
        let mut line = String::new();
        let mut missing = 0;
        for (place, (cell, room)) in cells.iter().zip(&self.0).enumerate() {
            if *room == 0 {
                continue;
            }
            line += &" ".repeat(missing);
            let shown = clip(cell, *room);
            missing = room.saturating_sub(width(&shown)) + GAP;
            line += &paint(place, shown);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] =
        [column("entry", 8, 8), column("to", 6, 20), column("last error", 10, usize::MAX)];

    fn shown(rows: &[[&str; 3]], room: usize) -> Vec<String> {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        let cells: Vec<&[String]> = rows.iter().map(Vec::as_slice).collect();
        let grid = Grid::new(&COLUMNS, &cells, room);
        let lines = rows.iter().map(|row| grid.line(row, |_, cell| cell));
        std::iter::once(grid.heading(&COLUMNS)).chain(lines).collect()
    }

    #[test]
    fn a_row_is_a_line_that_fits() {
        let row =
            ["12345678", "anna.with.a.long.name@example.org", "no such host, and no other one"];
        assert_eq!(
            shown(&[row], 40),
            ["entry     to            last error", "12345678  anna.with.a…  no such host, a…",]
        );
        for room in 0..100 {
            let short = ["1", "日本語", ""];
            for line in shown(&[row, short], room).iter().skip(1) {
                assert!(width(line) <= room.max(8), "{room}: {line:?}");
            }
        }
    }

    #[test]
    fn a_column_without_contents_is_left_out() {
        assert_eq!(shown(&[["1", "", "why"]], 40), ["entry  last error", "1      why"]);
    }
}
