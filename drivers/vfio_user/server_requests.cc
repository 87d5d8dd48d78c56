#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "drivers/vfio/uapi/vfio.h"
#include "drivers/vfio_user/feature.h"
#include "drivers/vfio_user/irq_set.h"
#include "drivers/vfio_user/region_info.h"
#include "drivers/vfio_user/server.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"

// What each command of a client does. Whatever is wrong with it is answered with an errno; only a
// stream that has lost its frame ends the client.
namespace runnel::vfio_user {
namespace {

namespace uapi = vfio::uapi;

// A PCI device has these many, absent ones included; some clients insist.
constexpr std::size_t pci_regions = 9;
constexpr std::size_t pci_irqs = 5;

bool is_pci(const device_layout& layout) {
  return (layout.flags & uapi::device_flags::pci) != 0;
}

std::size_t region_count(const device_layout& layout) {
  return is_pci(layout) ? std::max(layout.regions.size(), pci_regions) : layout.regions.size();
}

std::size_t irq_count(const device_layout& layout) {
  return is_pci(layout) ? std::max(layout.irqs.size(), pci_irqs) : layout.irqs.size();
}

/// A payload that begins with `argsz`, its own least size.
template <wire_struct T>
result<T> read_request(std::span<const std::byte> payload) {
  const auto request = read_wire<T>(payload);
  if (request && request->argsz < sizeof(T)) {
    return fail(errc::invalid);
  }
  return request;
}

answer refuse(error what) {
  return answer::refuse(errno_of(what));
}

/// The access lies in a region that allows it. @param wanted  a region flag
bool access_fits(const device_layout& layout, const region_access_payload& access,
                 std::uint32_t wanted) {
  if (access.region >= layout.regions.size()) {
    return false;
  }
  const vfio::region_info& region = layout.regions[access.region];
  return (region.flags & wanted) != 0 && range_within(access.offset, access.count, region.size);
}

bool takes_descriptors(command what) {
  return what == command::dma_map || what == command::device_set_irqs;
}

}  // namespace

answer server::dispatch(std::span<const std::byte> payload) {
  const command what = connection_->current.head.what;
  if (connection_->reader.fds().incomplete) {
    return answer::refuse(EMFILE);
  }
  if (connection_->reader.fds().count != 0 && !takes_descriptors(what)) {
    return answer::refuse(EINVAL);
  }
  switch (what) {
    case command::version:
      return on_version(payload);
    case command::dma_map:
      return on_dma_map(payload);
    case command::dma_unmap:
      return on_dma_unmap(payload);
    case command::device_get_info:
      return on_device_info(payload);
    case command::device_get_region_info:
      return on_region_info(payload);
    case command::device_get_irq_info:
      return on_irq_info(payload);
    case command::device_set_irqs:
      return on_set_irqs(payload);
    case command::region_read:
      return on_region_read(payload);
    case command::region_write:
      return on_region_write(payload);
    case command::device_reset:
      return on_reset(payload);
    case command::device_feature:
      return on_feature(payload);
    case command::device_get_region_io_fds:
    case command::dma_read:
    case command::dma_write:
    case command::region_write_multi:
      break;  // never offered, or not a client's to send
    case command::mig_data_read:
    case command::mig_data_write:
      return answer::refuse(ENOTTY);  // as everything else about migration
  }
  return answer::refuse(ENOTSUP);
}

answer server::resume() {
  request& current = connection_->current;
  if (!current.late_answer) {
    return unmap_some();
  }
  const int errno_value = *current.late_answer;
  current.late_answer.reset();
  const answer given = errno_value == 0 ? answer::ok() : answer::refuse(errno_value);
  if (current.head.what == command::dma_map) {
    return settle_map(given);
  }
  if (current.head.what == command::dma_unmap) {
    const answer settled = settle_unmap(given);
    return settled.errno_value() != 0 ? settled : unmap_some();
  }
  return given;
}

answer server::on_version(std::span<const std::byte> payload) {
  const auto proposed = parse_version(payload);
  if (!proposed) {
    return refuse(proposed.error());
  }
  if (connection_->introduced || proposed->numbers.major != version_major) {
    return answer::refuse(EINVAL);
  }
  if (const int refused = model_.match_token_uuid({}); refused != 0) {
    return answer::refuse(refused);  // the protocol has no place for a token
  }
  const std::string text =
      encode_version({.numbers = {.major = version_major,
                                  .minor = std::min(proposed->numbers.minor, version_minor)},
                      .limits = {.max_msg_fds = message_fds_max,
                                 .max_data_xfer_size = data_bytes_max,
                                 .max_dma_maps = options_.maps_max}});
  std::ranges::copy(std::as_bytes(std::span{text}), reply_room(text.size()).begin());
  connection_->limits = proposed->limits;
  connection_->introduced = true;
  model_.open_device(memory_);
  return answer::ok();
}

answer server::on_dma_map(std::span<const std::byte> payload) {
  const auto wanted = parse_dma_map(payload);
  if (!wanted) {
    return refuse(wanted.error());
  }
  fd_list& fds = connection_->reader.fds();
  if (fds.count > 1) {
    return answer::refuse(EINVAL);
  }
  constexpr std::uint32_t access_mask = dma_map_flags::read | dma_map_flags::write;
  const auto permissions = static_cast<access>(wanted->flags & access_mask);
  const std::uint64_t before = memory_.generation();
  const auto added = memory_.map(iova{wanted->iova}, wanted->size, permissions,
                                 std::move(fds.fds[0]), wanted->offset);
  if (!added) {
    return refuse(added.error());
  }
  if (memory_.generation() == before) {
    return answer::ok();  // mapped already, exactly so
  }
  connection_->current.region_at_stake = *added;
  return settle_map(model_.dma_map(current_id(), **added));
}

answer server::settle_map(answer given) {
  if (!given.is_later() && given.errno_value() != 0) {
    const region& refused = *connection_->current.region_at_stake;
    memory_.withdraw(refused);
    memory_.release(refused);
  }
  return given;
}

answer server::on_dma_unmap(std::span<const std::byte> payload) {
  const auto wanted = parse_dma_unmap(payload);
  if (!wanted) {
    return refuse(wanted.error());
  }
  const bool all = (wanted->flags & dma_unmap_flags::all) != 0;
  connection_->current.unmap_first = iova{wanted->iova};
  connection_->current.unmap_last =
      iova{all ? ~std::uint64_t{0} : wanted->iova + (wanted->size - 1)};
  if (memory_.has_edge_inside_a_map(connection_->current.unmap_first,
                                    connection_->current.unmap_last)) {
    return answer::refuse(EINVAL);  // what it keeps, it must not believe to be gone
  }
  write_wire(reply_room(sizeof(*wanted)), *wanted);
  return unmap_some();
}

/// The model has let go of a region, or says it cannot.
answer server::settle_unmap(answer given) {
  request& current = connection_->current;
  if (given.is_later() || given.errno_value() != 0) {
    return given;
  }
  memory_.release(*std::exchange(current.region_at_stake, nullptr));
  return given;
}

/// Takes out the regions of the range one by one, as many as one `advance` may.
answer server::unmap_some() {
  request& current = connection_->current;
  for (unsigned budget = options_.unmaps_max; budget > 0; --budget) {
    const region* const leaving = memory_.find_inside(current.unmap_first, current.unmap_last);
    if (leaving == nullptr) {
      return answer::ok();  // also when there was none at all: clients unmap generously
    }
    memory_.withdraw(*leaving);
    current.region_at_stake = leaving;
    const answer given = settle_unmap(model_.dma_unmap(current_id(), *leaving));
    if (given.is_later() || given.errno_value() != 0) {
      return given;
    }
  }
  more_ = true;
  return answer::later();
}

answer server::on_device_info(std::span<const std::byte> payload) {
  const auto asked = read_request<device_info_payload>(payload);
  if (!asked) {
    return refuse(asked.error());
  }
  write_wire(reply_room(sizeof(device_info_payload)),
             device_info_payload{.argsz = sizeof(device_info_payload),
                                 .flags = layout_.flags,
                                 .num_regions = static_cast<std::uint32_t>(region_count(layout_)),
                                 .num_irqs = static_cast<std::uint32_t>(irq_count(layout_))});
  return answer::ok();
}

answer server::on_region_info(std::span<const std::byte> payload) {
  const auto asked = read_request<uapi::region_info>(payload);
  if (!asked) {
    return refuse(asked.error());
  }
  if (asked->index >= region_count(layout_)) {
    return answer::refuse(EINVAL);
  }
  const vfio::region_info absent;
  const vfio::region_info& region =
      asked->index < layout_.regions.size() ? layout_.regions[asked->index] : absent;
  const std::size_t needed = region_info_bytes(region);
  const bool complete = asked->argsz >= needed;
  encode_region_info(region, asked->index,
                     reply_room(complete ? needed : sizeof(uapi::region_info)));
  if (complete && is_mappable(region)) {
    connection_->current.reply_fd = region.fd;  // one, however many areas: QEMU takes no more
  }
  return answer::ok();
}

answer server::on_irq_info(std::span<const std::byte> payload) {
  const auto asked = read_request<uapi::irq_info>(payload);
  if (!asked) {
    return refuse(asked.error());
  }
  if (asked->index >= irq_count(layout_)) {
    return answer::refuse(EINVAL);
  }
  const vfio::irq_info absent;
  const vfio::irq_info& irq =
      asked->index < layout_.irqs.size() ? layout_.irqs[asked->index] : absent;
  // Never NORESIZE: with it QEMU takes all vectors away for each one that it adds.
  write_wire(reply_room(sizeof(uapi::irq_info)),
             uapi::irq_info{.argsz = sizeof(uapi::irq_info),
                            .flags = irq.flags & ~uapi::irq_flags::noresize,
                            .index = asked->index,
                            .count = irq.count});
  return answer::ok();
}

answer server::on_set_irqs(std::span<const std::byte> payload) {
  fd_list& fds = connection_->reader.fds();
  const auto change = check_irq_set(payload, fds.count, layout_);
  if (!change) {
    return answer::refuse(change.error());
  }
  switch (change->what) {
    case irq_change::kind::nothing:
      return answer::ok();
    case irq_change::kind::disable:
      model_.disable_irqs(change->index);
      return answer::ok();
    case irq_change::kind::mask:
    case irq_change::kind::unmask:
      model_.mask_irq(change->index, change->what == irq_change::kind::mask);
      return answer::ok();
    case irq_change::kind::trigger: {
      const answer given = model_.trigger_irqs(
          {.index = change->index, .start = change->start, .count = change->count});
      CHECK(!given.is_later());
      return given;
    }
    case irq_change::kind::attach:
      for (std::size_t i = 0; i < fds.count; ++i) {
        if (const int unfit = prepare_eventfd(fds.fds[i].get()); unfit != 0) {
          return answer::refuse(unfit);
        }
      }
      return set_triggers(change->index, change->start, {fds.fds.data(), fds.count});
    case irq_change::kind::detach:
      break;
  }
  std::array<unique_fd, message_fds_max> none;
  for (std::uint32_t done = 0; done < change->count;) {
    const auto run =
        static_cast<std::uint32_t>(std::min<std::size_t>(none.size(), change->count - done));
    const answer given = set_triggers(change->index, change->start + done, {none.data(), run});
    if (given.errno_value() != 0) {
      return given;
    }
    done += run;
  }
  return answer::ok();
}

answer server::set_triggers(std::uint32_t index, std::uint32_t start,
                            std::span<unique_fd> eventfds) {
  const answer given = model_.set_irq_triggers(index, start, eventfds);
  CHECK(!given.is_later());
  return given;
}

answer server::on_region_read(std::span<const std::byte> payload) {
  const auto access = read_wire<region_access_payload>(payload);
  if (!access || payload.size() != sizeof(*access) || access->count > data_bytes_max ||
      !access_fits(layout_, *access, uapi::region_flags::read)) {
    return answer::refuse(EINVAL);
  }
  const auto room = reply_room(sizeof(*access) + access->count);
  write_wire(room, *access);
  const auto data = room.subspan(sizeof(*access));
  // What the model leaves out must not be a leftover of some earlier reply.
  std::ranges::fill(data, std::byte{0});
  return data.empty() ? answer::ok()
                      : model_.read(current_id(), access->region, access->offset, data);
}

answer server::on_region_write(std::span<const std::byte> payload) {
  const auto write = parse_with_data<region_access_payload>(payload);
  if (!write || !access_fits(layout_, write->fixed, uapi::region_flags::write)) {
    return answer::refuse(EINVAL);
  }
  write_wire(reply_room(sizeof(write->fixed)), write->fixed);
  return write->data.empty()
             ? answer::ok()
             : model_.write(current_id(), write->fixed.region, write->fixed.offset, write->data);
}

answer server::on_reset(std::span<const std::byte> payload) {
  if (!payload.empty() || (layout_.flags & uapi::device_flags::reset) == 0) {
    return answer::refuse(EINVAL);
  }
  return model_.reset(current_id());
}

answer server::on_feature(std::span<const std::byte> payload) {
  constexpr std::size_t fixed_bytes = sizeof(uapi::device_feature);
  const auto asked = read_wire<uapi::device_feature>(payload);
  if (!asked || check_feature_header(asked->argsz, asked->flags) != 0) {
    return answer::refuse(EINVAL);
  }
  // GET may fill what the client has room for; SET means what it sent.
  const auto sent = payload.subspan(fixed_bytes);
  const bool gets = (asked->flags & uapi::feature_flags::probe) == 0 &&
                    (asked->flags & uapi::feature_flags::get) != 0;
  const std::size_t data_bytes =
      std::min<std::size_t>(asked->argsz - fixed_bytes, gets ? data_bytes_max : sent.size());
  const auto room = reply_room(fixed_bytes + data_bytes);
  const auto data = room.subspan(fixed_bytes);
  std::ranges::fill(data, std::byte{0});
  std::ranges::copy(sent.first(std::min(sent.size(), data_bytes)), data.begin());
  const answer given = run_feature(model_, layout_, current_id(), asked->flags, data);
  connection_->current.reply_bytes = gets ? room.size() : fixed_bytes;
  write_wire(room, uapi::device_feature{
                       .argsz = static_cast<std::uint32_t>(connection_->current.reply_bytes),
                       .flags = asked->flags});
  return given;
}

}  // namespace runnel::vfio_user
