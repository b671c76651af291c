//! Tables for people.

use std::fmt;

use crate::console::plain;

/// Where the text of a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under a heading, each column as wide as it must be.
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns. A heading that begins with `>` stands to the right.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        let columns = headings
            .iter()
            .map(|heading| match heading.strip_prefix('>') {
                Some(heading) => (heading, Align::Right),
                None => (*heading, Align::Left),
            })
            .collect();
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn row(&mut self, cells: &[&dyn fmt::Display]) {
        assert_eq!(
            cells.len(),
            self.columns.len(),
            "a row has a cell for each column"
        );
        let row = cells.iter().map(|cell| plain(&cell.to_string())).collect();
        self.rows.push(row);
    }

    fn widths(&self) -> Vec<usize> {
        let cell_width = |row: &Vec<String>, column: usize| {
            row.get(column).map_or(0, |cell| cell.chars().count())
        };
        let widths = self
            .columns
            .iter()
            .enumerate()
            .map(|(column, (heading, _))| {
                let cells = self.rows.iter().map(|row| cell_width(row, column));
                cells.max().unwrap_or(0).max(heading.chars().count())
            });
        widths.collect()
    }
}

impl fmt::Display for Table {
    /// The heading and the rows, without an end of line after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let line = |cells: Vec<&str>| {
            let cells = cells.into_iter().zip(&self.columns).zip(&widths);
            let padded: Vec<String> = cells
                .map(|((cell, (_, align)), width)| match align {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                })
                .collect();
            padded.join("  ").trim_end().to_owned()
        };
        let headings = self.columns.iter().map(|(heading, _)| *heading).collect();
        f.write_str(&line(headings))?;
        self.rows
            .iter()
            .try_for_each(|row| write!(f, "\n{}", line(row.iter().map(String::as_str).collect())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut table = Table::new(&["NAME", ">VOTES", "WHY"]);
        table.row(&[&"a", &12_345_678, &""]);
        table.row(&[&"zwölf", &7, &"x\ny"]);
        let expected = "NAME      VOTES  WHY\n\
                        a      12345678\n\
                        zwölf         7  x\u{fffd}y";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn no_rows_leave_the_heading() {
        assert_eq!(Table::new(&["A", ">B"]).to_string(), "A  B");
    }
}
