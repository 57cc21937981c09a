//! Decides how many feeds one user may follow at once in this process: enough for every device, too few to use it up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use oa_contract::{Code, Refusal};

/// Open streams and waits of one user.
const MOST: usize = 64;

/// How many places each user has taken; a user without one is not in it.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<HashMap<String, usize>>>);

impl Places {
    pub fn take(&self, user_id: &str) -> Result<Place, Refusal> {
        let mut taken = self.lock();
        let count = taken.get(user_id).copied().unwrap_or(0);
        if count >= MOST {
            let message = format!("{MOST} feeds are followed already; close one first");
            return Err(Refusal { retry_after_ms: Some(1_000), ..Refusal::new(Code::RateLimited, message) });
        }
        taken.insert(user_id.to_owned(), count + 1);
        Ok(Place { places: self.clone(), user_id: user_id.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One follower's place, until it is dropped.
pub struct Place {
    places: Places,
    user_id: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        match taken.get(&self.user_id).copied() {
            Some(count @ 2..) => drop(taken.insert(self.user_id.clone(), count - 1)),
            _ => drop(taken.remove(&self.user_id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_left_is_free_again_and_nobody_takes_anothers() {
        let places = Places::default();
        let mut taken: Vec<Place> = (0..MOST).map(|_| places.take("a").expect("a place")).collect();
        assert_eq!(places.take("a").err().map(|refused| refused.code), Some(Code::RateLimited));
        assert!(places.take("b").is_ok());
        taken.pop();
        assert!(places.take("a").is_ok());
        drop(taken);
        assert!(places.lock().is_empty());
    }
}
