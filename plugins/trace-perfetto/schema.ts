/**
 * Field numbers of Perfetto's trace format (protos/perfetto/trace: trace.proto, trace_packet.proto, track_event.proto, track_descriptor.proto,
 * counter_descriptor.proto, debug_annotation.proto, interned_data.proto), as far as this writer uses them.
 */

export const TRACE = Object.freeze({ packet: 1 });

export const PACKET = Object.freeze({
  timestamp: 8,
  sequenceId: 10,
  trackEvent: 11,
  internedData: 12,
  sequenceFlags: 13,
  trackDescriptor: 60,
  firstPacketOnSequence: 87,
});

/** TracePacket.SequenceFlags. */
export const SEQUENCE = Object.freeze({ stateCleared: 1, needsState: 2 });

export const DESCRIPTOR = Object.freeze({
  uuid: 1,
  name: 2,
  parent: 5,
  counter: 8,
  childOrdering: 11,
  siblingRank: 12,
});

/** TrackDescriptor.ChildTracksOrdering: by siblingRank. */
export const EXPLICIT = 3;

export const COUNTER = Object.freeze({ unit: 3, unitName: 6 });
/** CounterDescriptor.Unit. */
export const UNIT_COUNT = 2;

export const EVENT = Object.freeze({
  annotation: 4,
  type: 9,
  nameId: 10,
  track: 11,
  name: 23,
  counterValue: 30,
});

/** TrackEvent.Type. */
export const TYPE = Object.freeze({ begin: 1, end: 2, instant: 3, counter: 4 });

/** InternedData; each entry has its number and its name. */
export const INTERNED = Object.freeze({ eventNames: 2, annotationNames: 3 });
export const ENTRY = Object.freeze({ id: 1, name: 2 });

export const ANNOTATION = Object.freeze({ nameId: 1, unsigned: 3 });
