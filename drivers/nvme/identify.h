#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

// What identify and get log page return. Sections and mnemonics as in spec.h: NVM Express Base 2.0,
// NVM Command Set 1.0 for namespaces. Text fields are ASCII, padded with spaces, not terminated.
namespace runnel::nvme {

inline constexpr std::size_t identify_bytes = 4096;

struct power_state_descriptor {
  std::uint16_t mp;  // maximum power, centiwatts unless flags bit 0 (then 0.0001 W)
  std::uint8_t reserved2;
  std::uint8_t flags;
  std::uint32_t enlat;  // microseconds
  std::uint32_t exlat;  // microseconds
  std::array<std::uint8_t, 20> reserved12;
};
static_assert(sizeof(power_state_descriptor) == 32);

/// @spec §5.17.2.1 figure 275
struct identify_controller {
  std::uint16_t vid;
  std::uint16_t ssvid;
  std::array<char, 20> sn;
  std::array<char, 40> mn;
  std::array<char, 8> fr;
  std::uint8_t rab;
  std::array<std::uint8_t, 3> ieee;
  std::uint8_t cmic;
  std::uint8_t mdts;  // largest transfer, 2^mdts pages of CAP.MPSMIN; 0: no limit
  std::uint16_t cntlid;
  std::uint32_t ver;
  std::uint32_t rtd3r;
  std::uint32_t rtd3e;  // longest shutdown, microseconds; 0: not reported
  std::uint32_t oaes;
  std::uint32_t ctratt;
  std::uint16_t rrls;
  std::array<std::uint8_t, 9> reserved102;
  std::uint8_t cntrltype;  // 1: I/O controller
  std::array<std::uint8_t, 16> fguid;
  std::uint16_t crdt1;
  std::uint16_t crdt2;
  std::uint16_t crdt3;
  std::array<std::uint8_t, 119> reserved134;
  std::uint8_t nvmsr;
  std::uint8_t vwci;
  std::uint8_t mec;
  std::uint16_t oacs;
  std::uint8_t acl;   // aborts at once, 0's based
  std::uint8_t aerl;  // asynchronous event requests at once, 0's based
  std::uint8_t frmw;
  std::uint8_t lpa;
  std::uint8_t elpe;  // error log entries, 0's based
  std::uint8_t npss;  // power states, 0's based
  std::uint8_t avscc;
  std::uint8_t apsta;
  std::uint16_t wctemp;  // kelvin
  std::uint16_t cctemp;  // kelvin
  std::uint16_t mtfa;
  std::uint32_t hmpre;
  std::uint32_t hmmin;
  std::array<std::uint8_t, 16> tnvmcap;
  std::array<std::uint8_t, 16> unvmcap;
  std::uint32_t rpmbs;
  std::uint16_t edstt;
  std::uint8_t dsto;
  std::uint8_t fwug;
  std::uint16_t kas;
  std::uint16_t hctma;
  std::uint16_t mntmt;
  std::uint16_t mxtmt;
  std::uint32_t sanicap;
  std::uint32_t hmminds;
  std::uint16_t hmmaxd;
  std::uint16_t nsetidmax;
  std::uint16_t endgidmax;
  std::uint8_t anatt;
  std::uint8_t anacap;
  std::uint32_t anagrpmax;
  std::uint32_t nanagrpid;
  std::uint32_t pels;
  std::uint16_t domainid;
  std::array<std::uint8_t, 10> reserved358;
  std::array<std::uint8_t, 16> megcap;
  std::array<std::uint8_t, 128> reserved384;
  std::uint8_t sqes;  // log2 bytes: required 3:0, largest 7:4
  std::uint8_t cqes;
  std::uint16_t maxcmd;
  std::uint32_t nn;  // largest namespace id
  std::uint16_t oncs;
  std::uint16_t fuses;
  std::uint8_t fna;
  std::uint8_t vwc;  // bit 0: a volatile write cache is present
  std::uint16_t awun;
  std::uint16_t awupf;
  std::uint8_t icsvscc;
  std::uint8_t nwpc;
  std::uint16_t acwu;
  std::uint16_t ocfs;
  std::uint32_t sgls;
  std::uint32_t mnan;
  std::array<std::uint8_t, 16> maxdna;
  std::uint32_t maxcna;
  std::array<std::uint8_t, 204> reserved564;
  std::array<char, 256> subnqn;  // terminated by zero
  std::array<std::uint8_t, 768> reserved1024;
  std::uint32_t ioccsz;  // from here to 1806: fabrics only
  std::uint32_t iorcsz;
  std::uint16_t icdoff;
  std::uint8_t fcatt;
  std::uint8_t msdbd;
  std::uint16_t ofcs;
  std::array<std::uint8_t, 242> reserved1806;
  std::array<power_state_descriptor, 32> psd;
  std::array<std::uint8_t, 1024> vendor;
};
static_assert(sizeof(identify_controller) == identify_bytes);
static_assert(offsetof(identify_controller, mdts) == 77);
static_assert(offsetof(identify_controller, cntlid) == 78);
static_assert(offsetof(identify_controller, ver) == 80);
static_assert(offsetof(identify_controller, rtd3e) == 88);
static_assert(offsetof(identify_controller, cntrltype) == 111);
static_assert(offsetof(identify_controller, crdt1) == 128);
static_assert(offsetof(identify_controller, oacs) == 256);
static_assert(offsetof(identify_controller, lpa) == 261);
static_assert(offsetof(identify_controller, wctemp) == 266);
static_assert(offsetof(identify_controller, tnvmcap) == 280);
static_assert(offsetof(identify_controller, rpmbs) == 312);
static_assert(offsetof(identify_controller, kas) == 320);
static_assert(offsetof(identify_controller, sanicap) == 328);
static_assert(offsetof(identify_controller, anagrpmax) == 344);
static_assert(offsetof(identify_controller, megcap) == 368);
static_assert(offsetof(identify_controller, sqes) == 512);
static_assert(offsetof(identify_controller, nn) == 516);
static_assert(offsetof(identify_controller, oncs) == 520);
static_assert(offsetof(identify_controller, vwc) == 525);
static_assert(offsetof(identify_controller, sgls) == 536);
static_assert(offsetof(identify_controller, maxdna) == 544);
static_assert(offsetof(identify_controller, subnqn) == 768);
static_assert(offsetof(identify_controller, ioccsz) == 1792);
static_assert(offsetof(identify_controller, psd) == 2048);
static_assert(offsetof(identify_controller, vendor) == 3072);
static_assert(std::is_trivially_copyable_v<identify_controller>);

// identify_controller::oncs
inline constexpr std::uint16_t oncs_compare = 1U << 0U;
inline constexpr std::uint16_t oncs_write_uncorrectable = 1U << 1U;
inline constexpr std::uint16_t oncs_dataset_management = 1U << 2U;
inline constexpr std::uint16_t oncs_write_zeroes = 1U << 3U;
inline constexpr std::uint16_t oncs_select = 1U << 4U;
inline constexpr std::uint16_t oncs_timestamp = 1U << 6U;
inline constexpr std::uint16_t oncs_verify = 1U << 7U;
// identify_controller::oacs
inline constexpr std::uint16_t oacs_doorbell_buffer = 1U << 8U;
// identify_controller::lpa
inline constexpr std::uint8_t lpa_effects_log = 1U << 1U;
inline constexpr std::uint8_t lpa_extended_data = 1U << 2U;
// identify_controller::vwc
inline constexpr std::uint8_t vwc_present = 1U << 0U;

/// @spec NVM §4.1.5.1 figure 98
struct lba_format {
  std::uint16_t ms;    // metadata bytes of a block
  std::uint8_t lbads;  // block is 2^lbads bytes; 0: format not available
  std::uint8_t rp;
};
static_assert(sizeof(lba_format) == 4);

/// @spec NVM §4.1.5.1 figure 97
struct identify_namespace {
  std::uint64_t nsze;  // blocks; 0: no such namespace
  std::uint64_t ncap;
  std::uint64_t nuse;
  std::uint8_t nsfeat;
  std::uint8_t nlbaf;  // formats, 0's based
  std::uint8_t flbas;  // format in use: index in 3:0 and 6:5; bit 4: metadata follows the data
  std::uint8_t mc;
  std::uint8_t dpc;
  std::uint8_t dps;
  std::uint8_t nmic;
  std::uint8_t rescap;
  std::uint8_t fpi;
  std::uint8_t dlfeat;
  std::uint16_t nawun;
  std::uint16_t nawupf;
  std::uint16_t nacwu;
  std::uint16_t nabsn;
  std::uint16_t nabo;
  std::uint16_t nabspf;
  std::uint16_t noiob;
  std::array<std::uint8_t, 16> nvmcap;
  std::uint16_t npwg;
  std::uint16_t npwa;
  std::uint16_t npdg;
  std::uint16_t npda;
  std::uint16_t nows;
  std::uint16_t mssrl;
  std::uint32_t mcl;
  std::uint8_t msrc;
  std::array<std::uint8_t, 11> reserved81;
  std::uint32_t anagrpid;
  std::array<std::uint8_t, 3> reserved96;
  std::uint8_t nsattr;
  std::uint16_t nvmsetid;
  std::uint16_t endgid;
  std::array<std::uint8_t, 16> nguid;
  std::array<std::uint8_t, 8> eui64;
  std::array<lba_format, 64> lbaf;
  std::array<std::uint8_t, 3712> vendor;

  /// Index of the format in use; may lie beyond `nlbaf` when the device is wrong.
  [[nodiscard]] constexpr std::size_t format_index() const noexcept {
    return (flbas & 0xfU) | (flbas >> 5U & 3U) << 4U;
  }
};
static_assert(sizeof(identify_namespace) == identify_bytes);
static_assert(offsetof(identify_namespace, flbas) == 26);
static_assert(offsetof(identify_namespace, dlfeat) == 33);
static_assert(offsetof(identify_namespace, noiob) == 46);
static_assert(offsetof(identify_namespace, nvmcap) == 48);
static_assert(offsetof(identify_namespace, mcl) == 76);
static_assert(offsetof(identify_namespace, anagrpid) == 92);
static_assert(offsetof(identify_namespace, nsattr) == 99);
static_assert(offsetof(identify_namespace, nguid) == 104);
static_assert(offsetof(identify_namespace, eui64) == 120);
static_assert(offsetof(identify_namespace, lbaf) == 128);
static_assert(offsetof(identify_namespace, vendor) == 384);
static_assert(std::is_trivially_copyable_v<identify_namespace>);

/// CNS 02h: ids above the one asked for, ascending; 0 ends the list.
using namespace_list = std::array<std::uint32_t, 1024>;
static_assert(sizeof(namespace_list) == identify_bytes);

/// Head of one entry of CNS 03h; `nidl` bytes follow; type 0 ends the list. @spec figure 277
struct namespace_descriptor {
  std::uint8_t nidt;
  std::uint8_t nidl;
  std::uint16_t reserved2;
};
static_assert(sizeof(namespace_descriptor) == 4);

enum class namespace_id_type : std::uint8_t { eui64 = 1, nguid = 2, uuid = 3, command_set = 4 };

/// @spec §5.16.1.2 figure 206
struct error_log_entry {
  std::uint64_t error_count;  // 0: unused entry
  std::uint16_t sq_id;
  std::uint16_t command_id;
  std::uint16_t status_and_phase;
  std::uint16_t parameter_location;
  std::uint64_t first_lba;
  std::uint32_t nsid;
  std::uint8_t vendor_log;
  std::uint8_t transport;
  std::uint16_t reserved30;
  std::uint64_t command_specific;
  std::uint16_t transport_specific;
  std::array<std::uint8_t, 22> reserved42;
};
static_assert(sizeof(error_log_entry) == 64);
static_assert(offsetof(error_log_entry, first_lba) == 16);
static_assert(offsetof(error_log_entry, command_specific) == 32);

/// A 16-byte little-endian counter.
struct counter128 {
  std::uint64_t low;
  std::uint64_t high;
};

/// @spec §5.16.1.3 figure 207
struct health_log {
  std::uint8_t critical_warning;
  std::array<std::uint8_t, 2> temperature;  // kelvin, little-endian, not aligned
  std::uint8_t available_spare;             // percent
  std::uint8_t available_spare_threshold;   // percent
  std::uint8_t percentage_used;
  std::uint8_t endurance_group_warning;
  std::array<std::uint8_t, 25> reserved7;
  counter128 data_units_read;     // thousands of 512 bytes
  counter128 data_units_written;  // thousands of 512 bytes
  counter128 host_reads;
  counter128 host_writes;
  counter128 busy_minutes;
  counter128 power_cycles;
  counter128 power_on_hours;
  counter128 unsafe_shutdowns;
  counter128 media_errors;
  counter128 error_log_entries;
  std::uint32_t warning_temperature_minutes;
  std::uint32_t critical_temperature_minutes;
  std::array<std::uint16_t, 8> sensors;  // kelvin; 0: absent
  std::array<std::uint32_t, 2> thermal_transitions;
  std::array<std::uint32_t, 2> thermal_seconds;
  std::array<std::uint8_t, 280> reserved232;
};
static_assert(sizeof(health_log) == 512);
static_assert(offsetof(health_log, data_units_read) == 32);
static_assert(offsetof(health_log, error_log_entries) == 176);
static_assert(offsetof(health_log, sensors) == 200);
static_assert(offsetof(health_log, reserved232) == 232);

/// @spec §5.16.1.4 figure 208
struct firmware_slot_log {
  std::uint8_t afi;  // active slot 2:0, slot after the next reset 6:4
  std::array<std::uint8_t, 7> reserved1;
  std::array<std::array<char, 8>, 7> frs;
  std::array<std::uint8_t, 448> reserved64;
};
static_assert(sizeof(firmware_slot_log) == 512);

/// @spec §5.16.1.6 figure 210: one dword for each opcode.
struct effects_log {
  std::array<std::uint32_t, 256> admin;
  std::array<std::uint32_t, 256> io;
  std::array<std::uint8_t, 2048> reserved2048;
};
static_assert(sizeof(effects_log) == 4096);
inline constexpr std::uint32_t effect_supported = 1U << 0U;
inline constexpr std::uint32_t effect_changes_data = 1U << 1U;

}  // namespace runnel::nvme
