//! Batches: each item succeeds or fails alone, some of them before they reach the log.

use aegis_ledger::{BATCH_MAX, Refusal};

use crate::problem::Problem;

/// A batch has at least one item and at most [`BATCH_MAX`].
pub(crate) fn check_len(field: &str, len: usize) -> Result<(), Problem> {
    if (1..=BATCH_MAX).contains(&len) {
        return Ok(());
    }
    let reason = format!("it has {len} items, use 1 to {BATCH_MAX}");
    Err(Problem::invalid_field(field, reason))
}

/// The places of a batch's items, of which some failed already.
pub(crate) struct Places(Vec<Result<(), Problem>>);

/// Takes out the items that are good so far.
pub(crate) fn split<T>(items: Vec<Result<T, Problem>>) -> (Vec<T>, Places) {
    let mut good = Vec::with_capacity(items.len());
    let places = items
        .into_iter()
        .map(|item| item.map(|item| good.push(item)))
        .collect();
    (good, Places(places))
}

impl Places {
    /// Puts what came of the good items into their places; every failure is counted.
    pub(crate) fn fill<T>(
        self,
        came: Vec<Result<T, Refusal>>,
    ) -> Result<Vec<Result<T, Problem>>, Problem> {
        let mut came = came.into_iter();
        self.0
            .into_iter()
            .map(|place| {
                let result = match place {
                    Ok(()) => came
                        .next()
                        .ok_or_else(Problem::wrong_receipt)?
                        .map_err(Problem::from),
                    Err(problem) => Err(problem),
                };
                Ok(result.inspect_err(Problem::count))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_stands_where_it_was_sent() {
        let failed = || Err(Problem::not_found("early"));
        let (good, places) = split(vec![Ok(1), failed(), Ok(2), Ok(3), failed()]);
        assert_eq!(good, [1, 2, 3]);
        let refusal = Refusal::UnknownVoter {
            agent: "late".to_owned(),
        };
        let merged = places.fill(vec![Ok(10), Err(refusal), Ok(30)]).unwrap();
        let shown: Vec<_> = merged
            .iter()
            .map(|item| item.as_ref().map_err(|problem| problem.code()))
            .collect();
        assert_eq!(
            shown,
            [
                Ok(&10),
                Err("not_found"),
                Err("unknown_voter"),
                Ok(&30),
                Err("not_found"),
            ]
        );
    }

    #[test]
    fn an_answer_that_is_too_short_is_an_error() {
        let (_, places) = split(vec![Ok(1), Ok(2)]);
        assert_eq!(places.fill(vec![Ok(10)]).unwrap_err().status(), 500);
    }
}
