//! Aligned tables for people.

/// Control characters never reach the terminal: names and labels come from schedulers.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// Rows under a head, columns as wide as their widest cell, two blanks between.
#[derive(Debug)]
pub(super) struct Table {
    head: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) const fn new(head: &'static [&'static str]) -> Self {
        Self { head, rows: Vec::new() }
    }

    /// Adds a row; empty cells are shown as `-`.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.head.len(), "a cell for each column");
        let shown = |cell: String| if cell.is_empty() { "-".to_owned() } else { clean(&cell) };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    /// The table as text; the head is bold if `coloured`.
    pub(super) fn render(&self, coloured: bool) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.head[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for (cell, width) in cells.zip(&widths) {
                line += cell;
                line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
            }
            line.trim_end().to_owned() + "\n"
        };
        let mut text = line(&mut self.head.iter().copied());
        if coloured {
            text = format!("\u{1b}[1m{}\u{1b}[0m\n", text.trim_end());
        }
        text.extend(self.rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
        text
    }
}
