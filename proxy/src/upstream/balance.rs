//! Which member of an upstream is asked next. Pure: by whose turn it is, and by what is known of each.

/// What is known of a member when one is picked.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// It failed a moment ago: others are better, and it is better than none.
    pub is_avoided: bool,
    /// It was asked already, for the same purpose.
    pub was_asked: bool,
}

/// The place of the next one: from the one whose turn it is, the first that works; none when all were asked.
#[must_use]
pub fn next(members: impl ExactSizeIterator<Item = State> + Clone, turn: usize) -> Option<usize> {
    let count = members.len();
    let start = turn.checked_rem(count)?;
    let in_turn = members.enumerate().cycle().skip(start).take(count);
    let mut avoided = None;
    for (place, state) in in_turn.filter(|(_, state)| !state.was_asked) {
        if !state.is_avoided {
            return Some(place);
        }
        avoided.get_or_insert(place);
    }
    avoided
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members as they are asked one after the other; who is avoided is in capitals.
    fn order(members: &str, turn: usize) -> String {
        let mut asked = String::new();
        loop {
            let states = members.chars().collect::<Vec<_>>();
            let states = states.iter().map(|member| State {
                is_avoided: member.is_uppercase(),
                was_asked: asked.contains(*member),
            });
            match next(states, turn) {
                Some(place) => asked.extend(members.chars().nth(place)),
                None => return asked,
            }
        }
    }

    #[test]
    fn each_has_its_turn() {
        let firsts: String = (0..7).filter_map(|turn| order("abc", turn).chars().next()).collect();
        assert_eq!(firsts, "abcabca");
        assert_eq!(order("abc", 1), "bca");
        assert_eq!(order("abc", usize::MAX), order("abc", usize::MAX % 3));
    }

    #[test]
    fn those_who_failed_come_last_and_do_come() {
        assert_eq!(order("aBc", 1), "caB");
        assert_eq!(order("ABc", 0), "cAB");
        assert_eq!(order("ABC", 2), "CAB");
        assert_eq!(order("A", 5), "A");
    }

    #[test]
    fn none_is_next_where_there_is_none() {
        assert_eq!(order("", 0), "");
        assert_eq!(order("", 3), "");
    }
}
