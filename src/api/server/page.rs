//! Parts of lists, which end early where their items are large.

use aegis_ledger::ArchiveError;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::query::{Cursor, encode};

/// A part of a list ends once its items have this many bytes.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// A part of a list as it is answered.
pub(crate) struct Part {
    pub(crate) items: Vec<Box<RawValue>>,
    pub(crate) next_cursor: Option<String>,
}

impl Part {
    /// Renders what was found up to `next`. `render` gives an item's place in the list and
    /// its body; where the bodies are large, the part ends before the items do.
    pub(crate) fn render<T, C: Cursor, B: Serialize>(
        found: impl IntoIterator<Item = T>,
        mut next: Option<C>,
        mut render: impl FnMut(T) -> Result<(C, B), ArchiveError>,
    ) -> Result<Self, ArchiveError> {
        let (mut items, mut bytes, mut last) = (Vec::new(), 0, None);
        for item in found {
            if bytes >= PAGE_BYTES_MAX {
                next = last;
                break;
            }
            let (place, body) = render(item)?;
            let json = to_raw_value(&body).expect("answers have only text keys");
            bytes += json.get().len();
            last = Some(place);
            items.push(json);
        }
        Ok(Self {
            items,
            next_cursor: next.as_ref().map(encode),
        })
    }
}

#[cfg(test)]
mod tests {
    use aegis_ledger::ProposalNo;

    use super::*;

    fn render(lens: &[usize], next: Option<u64>) -> (usize, Option<String>) {
        let items = (1..).zip(lens);
        let part = Part::render(items, next.map(ProposalNo), |(no, len)| {
            Ok((ProposalNo(no), "x".repeat(*len)))
        });
        let part = part.unwrap();
        (part.items.len(), part.next_cursor)
    }

    #[test]
    fn a_part_ends_with_the_item_that_fills_it() {
        let after = |no| Some(encode(&ProposalNo(no)));
        assert_eq!(render(&[], None), (0, None));
        assert_eq!(render(&[1, 1], None), (2, None));
        assert_eq!(render(&[1, 1], Some(7)), (2, after(7)));
        assert_eq!(render(&[PAGE_BYTES_MAX; 3], None), (1, after(1)));
        assert_eq!(render(&[PAGE_BYTES_MAX / 2; 3], Some(7)), (2, after(2)));
        assert_eq!(render(&[1, PAGE_BYTES_MAX], Some(7)), (2, after(7)));
        assert_eq!(render(&[PAGE_BYTES_MAX], None), (1, None));
    }
}
