//! The open objects of one member, behind generation-checked handles.

use sundown_protocol::request::Folder;
use sundown_protocol::{EntryId, ObjectId};

use crate::ground::provider::MessageContent;
use crate::peers::account::Charge;

/// What a handle refers to.
#[derive(Debug, PartialEq)]
#[cfg_attr(test, derive(Clone))]
pub(crate) enum Object {
    /// A store, by its place in the profile.
    Store(u16),
    /// A folder of a store, which is also its contents table.
    Folder(u16, Folder),
    Message(EntryId),
    AddressBook,
    StatusTable,
    Draft(Draft),
}

/// A message that was not saved yet.
#[derive(Debug, PartialEq)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Draft {
    pub(crate) store: u16,
    pub(crate) content: MessageContent,
    /// The record of a save that was begun. A later save of the draft must use the same record, or the draft is stored twice.
    pub(crate) saving: Option<u128>,
    /// The charge for its part in memory.
    pub(crate) charge: Charge,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Place {
    generation: u32,
    object: Option<Object>,
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Objects {
    places: Vec<Place>,
    free: Vec<u32>,
}

impl Objects {
    pub(crate) fn insert(&mut self, object: Object) -> ObjectId {
        if let Some(place) = self.free.pop() {
            let slot = &mut self.places[place as usize];
            slot.object = Some(object);
            return ObjectId { place, generation: slot.generation };
        }
        self.places.push(Place { generation: 0, object: Some(object) });
        ObjectId { place: self.places.len() as u32 - 1, generation: 0 }
    }

    pub(crate) fn get(&self, id: ObjectId) -> Option<&Object> {
        let slot = self.places.get(id.place as usize)?;
        slot.object.as_ref().filter(|_| slot.generation == id.generation)
    }

    pub(crate) fn get_mut(&mut self, id: ObjectId) -> Option<&mut Object> {
        let slot = self.places.get_mut(id.place as usize)?;
        slot.object.as_mut().filter(|_| slot.generation == id.generation)
    }

    pub(crate) fn remove(&mut self, id: ObjectId) -> Option<Object> {
        self.get(id)?;
        let slot = &mut self.places[id.place as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.place);
        slot.object.take()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Object> {
        self.places.iter().filter_map(|place| place.object.as_ref())
    }

    /// Takes all open objects.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Object> {
        self.free.clear();
        std::mem::take(&mut self.places).into_iter().filter_map(|place| place.object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OBJ-3: a handle of a released object is dead also when another object got its place.
    #[test]
    fn a_released_handle_stays_dead() {
        let mut objects = Objects::default();
        let first = objects.insert(Object::AddressBook);
        assert_eq!(objects.remove(first), Some(Object::AddressBook));
        let second = objects.insert(Object::StatusTable);
        assert_eq!(second.place, first.place);
        assert_eq!(objects.get(first), None);
        assert_eq!(objects.remove(first), None);
        assert_eq!(objects.get(second), Some(&Object::StatusTable));
        assert_eq!(objects.len(), 1);
        assert_eq!(objects.drain().count(), 1);
        assert_eq!(objects.len(), 0);
    }
}
