// SPDX-License-Identifier: Apache-2.0
//
// What a VM's interface carries, added up in the kernel by pair of addresses.
//
// One program, attached to both directions of an interface (tcx, or clsact where the kernel is older), adds
// each frame to a per-CPU hash keyed by a row of ADDRESS_PAIR (transhume/knowledge/model/addresses.py, which
// says what a row means). Nothing is copied to user space until a window is over.
//
// Two tables take turns, so that a window can be read while the next one is filled. The program itself looks at
// the clock, once a tick, and turns at the instant that user space has set before: a reader that is late shifts no
// frame into another window.
//
// Before the tables there is a small memory of recent pairs, of each CPU and shared with user space: most frames
// are of one of these, and finding its place takes a multiplication, where the table takes a hash of the whole
// row and four cache lines. Measured on a veth pair, that is a third of all that the program adds to a frame.
//
// `make bpf` builds the object beside this file. User space (counting.py) makes the maps by their names, so
// the object needs no type information.

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

enum { SOURCE_MAC = 1, DESTINATION_MAC = 2, CLAIM = 4 };
enum { IPV4 = 0x0800, ARP = 0x0806, IPV6 = 0x86dd };
enum { HOP_BY_HOP = 0, TCP = 6, UDP = 17, ROUTING = 43, FRAGMENT = 44, AH = 51, ICMPV6 = 58, NO_NEXT_HEADER = 59,
       DESTINATION = 60, MOBILITY = 135 };
// Loops have an end that the verifier can see.
enum { MAX_TAGS = 8, MAX_EXTENSIONS = 12, MAX_OPTIONS = 32 };
enum { NEIGHBOUR_ADVERTISEMENT = 136, TARGET_LINK_LAYER = 2 };
enum { DHCP_SERVER = 67, DHCP_CLIENT = 68, DHCP_OPTIONS = 240, DHCP_PAD = 0, DHCP_TYPE = 53, DHCP_END = 255,
       DHCP_ACK = 5 };
// Ethernet with two tags, an IPv6 header, a TCP header: what is read in place.
enum { FIXED_HEADERS = 14 + 8 + 40 + 20 };

// A row is written in words of eight bytes, as it is hashed and compared: byte by byte costs a third of the run.
union address_pair {
    __u64 words[6];
    struct {
        __u8 destination_mac[6];
        __u8 source_mac[6];
        __u8 family;
        __u8 flags;
        __u16 interface;
        __u8 source_ip[16];
        __u8 destination_ip[16];
    };
    struct {
        __u64 macs;
        __u64 rest_of_macs_family_flags;
        __u64 source[2];
        __u64 destination[2];
    };
};

struct counts {
    __u64 bytes;
    __u64 payload_bytes;
    __u64 frames;
    __u64 squared_bytes;  // of what was sampled, for the error of the estimate
    __u64 runs;           // of the program: a super-frame is one run and many frames
};

// A place in the memory of recent pairs. The pair stays in its place until both counts were read (and are zeros).
// Only this CPU writes to the counts in use; only user space to those that aren't.
struct place {
    union address_pair pair;
    struct counts counts[2];
};

// Shared with user space, which writes the first five: `turn_at` is nanoseconds of the monotonic clock, but for its
// lowest bit, which is the table in use until then. A threshold of 0 lets every frame in; else threshold / 2^32 do.
// Each CPU has so many places for recent pairs, a power of two. The others are the program's own: what it found out at
// the last tick.
struct {
    __u64 turn_at;
    __u32 threshold[2];
    __u32 no_link_layer;
    __u32 places;
    __u64 tick;
    __u64 table;
} volatile control SEC(".bss");

struct { __u32 unused; } pairs_0 SEC(".maps"), pairs_1 SEC(".maps"), recent SEC(".maps"), no_room SEC(".maps");

// Of which program this object was built; a test compares it with the file.
const char source_digest[] SEC("source_sha256") = SOURCE_SHA256;

static __always_inline int count(struct __sk_buff *skb);

// The entry, first in its section. The functions that are called rather than inlined, because they run seldom, are
// in the same one: that way there is nothing to link.
SEC("tc") int traffic(struct __sk_buff *skb)
{
    return count(skb);
}

static __always_inline int is_tag(__u16 kind)
{
    return kind == bpf_htons(0x8100) || kind == bpf_htons(0x88a8) || kind == bpf_htons(0x9100)
           || kind == bpf_htons(0x9200);
}

static __always_inline int is_extension(__u8 kind)
{
    return kind == HOP_BY_HOP || kind == ROUTING || kind == FRAGMENT || kind == DESTINATION || kind == AH
           || kind == MOBILITY;
}

static __always_inline __u32 without(__u32 bytes, __u32 header)
{
    return bytes > header ? bytes - header : 0;
}

static __always_inline void add_to(struct counts *sum, const struct counts *frame)
{
    sum->bytes += frame->bytes;
    sum->payload_bytes += frame->payload_bytes;
    sum->frames += frame->frames;
    sum->squared_bytes += frame->squared_bytes;
    sum->runs += frame->runs;
}

static __always_inline int add_in(void *table, const union address_pair *pair, const struct counts *frame)
{
    struct counts *sum = bpf_map_lookup_elem(table, pair);
    if (!sum) {
        if (!bpf_map_update_elem(table, pair, frame, BPF_NOEXIST))
            return 1;
        sum = bpf_map_lookup_elem(table, pair);  // another CPU may have been faster
        if (!sum)
            return 0;
    }
    add_to(sum, frame);
    return 1;
}

static __always_inline int is_same(const union address_pair *one, const union address_pair *other)
{
    return !((one->words[0] ^ other->words[0]) | (one->words[1] ^ other->words[1])
             | (one->words[2] ^ other->words[2]) | (one->words[3] ^ other->words[3])
             | (one->words[4] ^ other->words[4]) | (one->words[5] ^ other->words[5]));
}

// Return where to count a pair; 0 where the place is another's.
static __always_inline struct counts *counts_at(__u32 at, __u32 table, const union address_pair *pair)
{
    struct place *place = bpf_map_lookup_elem(&recent, &at);
    if (!place)
        return 0;
    if (!is_same(&place->pair, pair)) {
        if (place->counts[0].runs | place->counts[1].runs)
            return 0;
        place->pair = *pair;
    }
    return &place->counts[table & 1];
}

static __always_inline __u32 place_of(const union address_pair *pair)
{
    __u64 mixed = (pair->words[0] + pair->words[1] * 3 + pair->words[2] * 5 + pair->words[3] * 7
                   + pair->words[4] * 11 + pair->words[5] * 13) * 0x9e3779b97f4a7c15;
    __u32 places = control.places;
    return bpf_get_smp_processor_id() * places + ((mixed >> 48) & (places - 1));
}

// Count a pair for which there is no place.
SEC("tc") static __noinline int add_to_table(struct __sk_buff *skb, __u32 table, const union address_pair *pair,
                                             const struct counts *frame)
{
    if (!pair || !frame)
        return 0;
    if (table ? add_in(&pairs_1, pair, frame) : add_in(&pairs_0, pair, frame))
        return 0;
    struct counts *sum = bpf_map_lookup_elem(&no_room, &table);
    if (sum)
        add_to(sum, frame);
    return 0;
}

static __always_inline void add(struct __sk_buff *skb, __u32 table, const union address_pair *pair, __u64 bytes,
                                __u64 payload_bytes, __u64 frames)
{
    __u32 at = place_of(pair);
    struct counts *sum = counts_at(at, table, pair);
    if (!sum)
        sum = counts_at(at ^ 1, table, pair);
    if (sum) {
        sum->bytes += bytes;
        sum->payload_bytes += payload_bytes;
        sum->frames += frames;
        sum->squared_bytes += bytes * bytes;
        sum->runs++;
    } else {
        const struct counts frame = { bytes, payload_bytes, frames, bytes * bytes, 1 };
        add_to_table(skb, table, pair, &frame);
    }
}

// Make a row that says whose an IP address is. It has no frames: those are in the row of who said so.
SEC("tc") static __noinline int claim(struct __sk_buff *skb, __u32 table, const union address_pair *found)
{
    union address_pair row = {};
    const struct counts nothing = {};
    if (!found)
        return 0;
    __builtin_memcpy(row.source_mac, found->source_mac, 6);
    __builtin_memcpy(row.source_ip, found->source_ip, 16);
    row.family = found->family;
    row.flags = SOURCE_MAC | CLAIM;
    return add_to_table(skb, table, &row, &nothing);
}

// "This IPv6 address is at that MAC address": the target's, by its option where there is one.
SEC("tc") static __noinline int claim_of_advertisement(struct __sk_buff *skb, __u32 table, __u32 at,
                                                       const union address_pair *frame)
{
    union address_pair row = {};
    __u8 option[8];
    if (!frame || bpf_skb_load_bytes(skb, at + 8, row.source_ip, 16))
        return 0;
    row.family = 6;
    row.flags = frame->flags & SOURCE_MAC;
    __builtin_memcpy(row.source_mac, frame->source_mac, 6);
    at += 24;
    for (int i = 0; i < MAX_OPTIONS; i++) {
        if (bpf_skb_load_bytes(skb, at, option, 8) || !option[1])
            break;
        if (option[0] == TARGET_LINK_LAYER && option[1] == 1) {
            __builtin_memcpy(row.source_mac, option + 2, 6);
            row.flags = SOURCE_MAC;
            break;
        }
        at += option[1] * 8;
    }
    return row.flags ? claim(skb, table, &row) : 0;
}

// "You may have this IPv4 address": a DHCP server's acknowledgement.
SEC("tc") static __noinline int claim_of_lease(struct __sk_buff *skb, __u32 table, __u32 at)
{
    union address_pair row = {};
    __u8 head[3], option[3];
    __u32 cookie;
    if (bpf_skb_load_bytes(skb, at, head, 3) || head[0] != 2 || head[1] != 1 || head[2] != 6)
        return 0;
    if (bpf_skb_load_bytes(skb, at + 236, &cookie, 4) || cookie != bpf_htonl(0x63825363))
        return 0;
    if (bpf_skb_load_bytes(skb, at + 16, row.source_ip, 4)
        || bpf_skb_load_bytes(skb, at + 28, row.source_mac, 6) || !row.source[0])
        return 0;
    row.family = 4;
    at += DHCP_OPTIONS;
    for (int i = 0; i < MAX_OPTIONS; i++) {
        if (bpf_skb_load_bytes(skb, at, option, 3) || option[0] == DHCP_END)
            return 0;
        if (option[0] == DHCP_TYPE)
            return option[2] == DHCP_ACK ? claim(skb, table, &row) : 0;
        at += option[0] == DHCP_PAD ? 1 : 2 + option[1];
    }
    return 0;
}

// What comes behind the IP header.
struct transport {
    __u32 at;     // where it begins, from the front of the frame
    __u32 bytes;  // from there to the end of the datagram
    __u32 ports;  // its first four bytes
    __u8 protocol;
    __u8 offset;  // TCP's byte that says how long its header is
    __u8 is_later_fragment;
};

// Step over the extension headers of IPv6.
SEC("tc") static __noinline int past_extensions(struct __sk_buff *skb, struct transport *inner)
{
    __u8 head[8];
    if (!inner)
        return 0;
    for (int i = 0; i < MAX_EXTENSIONS; i++) {
        __u8 kind = inner->protocol;
        __u32 length;
        if (!is_extension(kind))
            return 0;
        if (bpf_skb_load_bytes(skb, inner->at, head, 8))
            return 0;
        length = kind == FRAGMENT ? 8 : kind == AH ? (head[1] + 2) * 4 : (head[1] + 1) * 8;
        if (kind == FRAGMENT && ((head[2] << 8 | head[3]) & 0xfff8))
            inner->is_later_fragment = 1;
        inner->protocol = head[0];
        inner->at += length;
        inner->bytes = without(inner->bytes, length);
        if (inner->is_later_fragment)
            return 0;
    }
    return 0;
}

// What is read of the transport's header: in place where it can be, which is nearly always.
static __always_inline void peek(struct __sk_buff *skb, struct transport *inner, __u8 *begin, __u8 *end)
{
    if (begin && begin + 14 <= end) {
        inner->ports = *(__u32 *)begin;
        inner->offset = begin[12];
        return;
    }
    bpf_skb_load_bytes(skb, inner->at, &inner->ports, 4);
    if (bpf_skb_load_bytes(skb, inner->at + 12, &inner->offset, 1))
        inner->offset = 5 << 4;  // as the shortest header of TCP has it
}

// Keep clang from holding a structure's parts in registers, of which BPF has too few: it would save and copy them
// at each branch, twice the instructions in all.
static __always_inline void in_memory(void *what)
{
    asm volatile("" : : "r"(what) : "memory");
}

// The clock is read once a tick of the kernel's: that is as often as the coarse one changes.
static __always_inline __u32 table_in_use(void)
{
    __u64 tick = bpf_jiffies64();
    if (control.tick != tick) {
        __u64 turn_at = control.turn_at;
        control.table = (turn_at & 1) ^ (bpf_ktime_get_coarse_ns() >= turn_at);
        control.tick = tick;
    }
    return control.table & 1;
}

// Step over VLAN tags; return the EtherType behind them.
SEC("tc") static __noinline int past_tags(struct __sk_buff *skb, __u32 *at)
{
    __u16 kind = bpf_htons(0x8100);
    if (!at)
        return 0;
    for (int i = 0; i < MAX_TAGS && is_tag(kind); i++) {
        if (bpf_skb_load_bytes(skb, *at + 2, &kind, 2))
            return 0;
        *at += 4;
    }
    return kind;
}

static __always_inline int count(struct __sk_buff *skb)
{
    union address_pair pair = {};
    struct transport inner = { .protocol = NO_NEXT_HEADER };
    __u32 table = table_in_use();
    __u32 threshold = control.threshold[table];
    if (threshold && bpf_get_prandom_u32() >= threshold)
        return TC_ACT_UNSPEC;

    __u32 length = skb->len, payload, at = 0;
    __u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    __u32 wanted = length < FIXED_HEADERS ? length : FIXED_HEADERS;
    if (data + wanted > end) {
        bpf_skb_pull_data(skb, wanted);
        data = (void *)(long)skb->data;
        end = (void *)(long)skb->data_end;
    }

    __u64 rest_of_macs = 0, family = 0, flags = 0;
    in_memory(&pair);
    in_memory(&inner);
    __u16 kind;
    if (control.no_link_layer) {
        if (data + 1 > end)
            goto counted;
        kind = *data >> 4 == 4 ? bpf_htons(IPV4) : *data >> 4 == 6 ? bpf_htons(IPV6) : 0;
    } else {
        if (data + 14 > end)
            goto counted;
        pair.macs = *(__u64 *)data;
        rest_of_macs = *(__u32 *)(data + 8);
        flags = SOURCE_MAC | DESTINATION_MAC;
        kind = *(__u16 *)(data + 12);
        at = 14;
        if (is_tag(kind)) {
            __u32 behind = at;
            kind = past_tags(skb, &behind);
            at = behind & 63;
        }
    }

    __u8 *head = data + at;
    if (kind == bpf_htons(IPV4)) {
        if (head + 20 > end || head[0] >> 4 != 4 || (head[0] & 15) < 5)
            goto counted;
        __u32 header = (head[0] & 15) * 4, total = bpf_ntohs(*(__u16 *)(head + 2));
        family = 4;
        pair.source[0] = *(__u32 *)(head + 12);
        pair.destination[0] = *(__u32 *)(head + 16);
        inner.at = at + header;
        inner.bytes = without(total ? total : length - at, header);
        inner.protocol = head[9];
        inner.is_later_fragment = (*(__u16 *)(head + 6) & bpf_htons(0x1fff)) != 0;
        peek(skb, &inner, head + header, end);
    } else if (kind == bpf_htons(IPV6)) {
        if (head + 40 > end || head[0] >> 4 != 6)
            goto counted;
        __u32 total = bpf_ntohs(*(__u16 *)(head + 4));
        family = 6;
        pair.source[0] = *(__u64 *)(head + 8);
        pair.source[1] = *(__u64 *)(head + 16);
        pair.destination[0] = *(__u64 *)(head + 24);
        pair.destination[1] = *(__u64 *)(head + 32);
        inner.at = at + 40;
        inner.bytes = total ? total : without(length, at + 40);
        inner.protocol = head[6];
        if (is_extension(inner.protocol)) {
            past_extensions(skb, &inner);
            peek(skb, &inner, 0, end);
        } else {
            peek(skb, &inner, head + 40, end);
        }
    } else if (kind == bpf_htons(ARP)) {
        if (head + 28 > end || *(__u32 *)(head + 2) != bpf_htonl(0x08000604))
            goto counted;
        family = 4;
        pair.source[0] = *(__u32 *)(head + 14);
        pair.destination[0] = *(__u32 *)(head + 24);
        if (pair.source[0])
            flags |= CLAIM;
    }

counted:
    in_memory(&pair);
    in_memory(&inner);
    pair.rest_of_macs_family_flags = rest_of_macs | family << 32 | flags << 40;
    if (inner.is_later_fragment)
        inner.protocol = NO_NEXT_HEADER;
    if (inner.protocol == TCP)
        payload = without(inner.bytes, (inner.offset >> 4) * 4);
    else if (inner.protocol == UDP)
        payload = without(inner.bytes, 8);
    else
        payload = inner.bytes;

    __u32 size = skb->gso_size;
    length += skb->vlan_present ? 4 : 0;
    __u64 frames = 1, bytes = length;
    if (size && payload > size) {
        // As on the wire: each segment has the headers once more. A frame from a guest doesn't tell its segments.
        frames = skb->gso_segs ? skb->gso_segs : (payload + size - 1) / size;
        bytes += (frames - 1) * (length - payload);
    }
    add(skb, table, &pair, bytes, payload, frames);

    if (inner.protocol == UDP && inner.ports == bpf_htonl(DHCP_SERVER << 16 | DHCP_CLIENT)) {
        if (family == 4)
            claim_of_lease(skb, table, inner.at + 8);
    } else if (inner.protocol == ICMPV6 && (__u8)inner.ports == NEIGHBOUR_ADVERTISEMENT) {
        if (family == 6)
            claim_of_advertisement(skb, table, inner.at, &pair);
    }
    return TC_ACT_UNSPEC;
}

char terms[] SEC("license") = "GPL";
