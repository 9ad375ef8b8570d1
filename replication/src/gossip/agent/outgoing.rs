//! Outgoing: foca's messages, greetings, this node's own pages, and events for the caller.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::envelope::{DatagramHead, DatagramKind};
use super::super::forming::FormingEvent;
use super::super::limits::{
    BODY_BYTES_MAX, GREET_PERIOD, LEAVE_PERIOD, META_PERIOD, OUTPUTS_MAX, SEED_PERIOD,
    SEED_PERIOD_ALONE, SEEDS_MAX, SENDERS_MAX, WELCOMES_PER_SECOND,
};
use super::super::meta::BasePage;
use super::super::output::{Output, Warning};
use super::Gossip;
use crate::types::NodeId;

impl Gossip {
    /// Does what a call has left to do: forming's events, nodes that came up, foca's messages.
    pub(super) fn settle(&mut self) {
        while let Some(event) = self.forming.next_event() {
            match event {
                FormingEvent::Send { to, address, message } => {
                    self.send_to(to, address, DatagramKind::Forming, &message.encode());
                }
                FormingEvent::Save(promise) => self.push(Output::SavePromise(promise)),
                FormingEvent::Formed(founding) => {
                    (self.cluster, self.partitions) = (founding.cluster, founding.partitions);
                    self.push(Output::Formed(founding));
                    self.publish();
                    self.next_seeds = self.now;
                }
                FormingEvent::Warn(warning) => self.push(Output::Warning(warning)),
            }
        }
        let ups = self.swim.take_ups();
        if !ups.is_empty() {
            for up in &ups {
                if self.senders.get(up.node).is_none_or(|sender| sender.boot < up.bump) {
                    self.greet(up.address);
                }
            }
            self.tell_all();
        }
        for (to, body) in self.swim.take_sends() {
            self.send_to(to.node, to.address, DatagramKind::Swim, &body);
        }
        let members: Vec<_> = self.swim.members().collect();
        let mut changed = false;
        for (identity, state) in members {
            changed |= self.table.set(identity, state, self.now);
        }
        if changed {
            self.changed();
        }
        if self.pages.bump() != self.swim.identity().bump {
            self.publish();
        }
    }

    /// Sends, or greets if the receiver's boot is not known. What is lost is sent again later.
    pub(super) fn send_to(
        &mut self,
        to: NodeId,
        address: SocketAddr,
        kind: DatagramKind,
        body: &[u8],
    ) {
        match self.senders.get(to) {
            Some(sender) if sender.address == address => {
                let to_boot = sender.boot;
                self.send(address, kind, to_boot, body);
            }
            _ => self.greet(address),
        }
    }

    pub(super) fn greet(&mut self, address: SocketAddr) {
        if address == self.address {
            return;
        }
        if self.greeted.len() >= SENDERS_MAX {
            self.greeted.clear();
        }
        let due = self.greeted.get(&address).is_none_or(|&at| self.now >= at + GREET_PERIOD);
        if due {
            self.greeted.insert(address, self.now);
            self.send(address, DatagramKind::Hello, 0, &[]);
        }
    }

    pub(super) fn greet_seeds(&mut self) {
        let alone = self.cluster.0 == 0 || self.swim.is_alone();
        self.next_seeds = self.now + if alone { SEED_PERIOD_ALONE } else { SEED_PERIOD };
        let introduced = self.introduced.iter();
        let silent: Vec<_> = introduced
            .filter(|&(&node, _)| !self.table.is_active(node))
            .map(|(_, &address)| address)
            .chain(self.seeds.iter().copied())
            .collect();
        for address in silent {
            self.greet(address);
        }
    }

    /// One more datagram that is not believed may be answered now.
    pub(super) fn may_answer(&mut self) -> bool {
        if self.now.saturating_sub(self.welcomes.0) >= Duration::from_secs(1) {
            self.welcomes = (self.now, 0);
        }
        if self.welcomes.1 >= WELCOMES_PER_SECOND {
            self.counters.unanswered += 1;
            return false;
        }
        self.welcomes.1 += 1;
        true
    }

    pub(super) fn answer(&mut self, to: SocketAddr, head: &DatagramHead, kind: DatagramKind) {
        if !self.may_answer() {
            return;
        }
        let mut body = Vec::new();
        if kind == DatagramKind::Refused {
            let silence = self.senders.get(head.node).map(|holder| holder.silence(self.now));
            let millis = silence.unwrap_or_default().as_millis() as u64;
            if millis > 0 {
                body.extend_from_slice(&millis.to_le_bytes());
            }
        }
        if kind == DatagramKind::Welcome {
            let boot = self.senders.get(head.node).map_or(0, |sender| sender.boot);
            let bump = self.table.get(head.node).map_or(0, |known| known.identity.bump);
            body.extend_from_slice(&self.swim.identity().bump.to_le_bytes());
            body.extend_from_slice(&boot.max(bump).to_le_bytes());
        }
        self.send(to, kind, head.boot, &body);
    }

    pub(super) fn send(&mut self, to: SocketAddr, kind: DatagramKind, to_boot: u64, body: &[u8]) {
        assert!(body.len() <= BODY_BYTES_MAX, "body of {} bytes", body.len());
        if self.outputs.len() >= OUTPUTS_MAX {
            self.counters.outputs_full += 1;
            return;
        }
        self.sequence += 1;
        let head = DatagramHead {
            kind,
            cluster: self.cluster,
            node: self.node,
            boot: self.boot,
            sequence: self.sequence,
            to_boot,
            peer_address: self.address,
            partitions: self.partitions,
        };
        let bytes = self.seal.seal(&head, body);
        self.counters.sent += 1;
        self.outputs.push_back(Output::Send { to, bytes });
    }

    /// Spreads those of this node's own pages that have changed.
    pub(super) fn publish(&mut self) {
        let base = BasePage {
            bump: self.swim.identity().bump,
            left: self.leaving.is_some(),
            leaving: self.meta.leaving,
            cluster: self.cluster,
            expect: match self.expect {
                Some(expect) if self.cluster.0 == 0 => u16::try_from(expect).unwrap_or(u16::MAX),
                _ => 0,
            },
            partitions: self.partitions,
            cores: self.meta.cores,
            free_bytes: self.meta.free_bytes,
            client_address: self.meta.client_address.clone(),
            version: self.meta.version.clone(),
        };
        for page in self.pages.set(&base, &self.meta) {
            self.swim.spread(&page);
        }
        self.changed();
    }

    /// Spreads all of this node's own pages again: a node may have missed them.
    pub(super) fn tell_all(&mut self) {
        self.next_meta = self.now + META_PERIOD;
        for page in self.pages.all() {
            self.swim.spread(&page);
        }
    }

    pub(super) fn say_leaving(&mut self) {
        let Some((times @ 1.., at)) = self.leaving else { return };
        if self.now < at {
            return;
        }
        self.leaving = Some((times - 1, self.now + LEAVE_PERIOD));
        let Some(page) = self.pages.base() else { return };
        let others: Vec<_> = self.table.iter().map(|known| known.identity).collect();
        for other in others {
            if self.table.is_active(other.node) {
                self.send_to(other.node, other.address, DatagramKind::Leave, &page);
            }
        }
    }

    pub(super) fn changed(&mut self) {
        if self.outputs.back() != Some(&Output::Changed) {
            self.push(Output::Changed);
        }
    }

    pub(super) fn warn(&mut self, warning: Warning) {
        if self.warned.contains(&warning) {
            return;
        }
        if self.warned.len() >= SEEDS_MAX {
            self.warned.clear();
        }
        self.warned.push(warning.clone());
        self.push(Output::Warning(warning));
    }

    pub(super) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }
}
