#include "apps/doctor/sound_types.h"

#include <bpf/btf.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace runnel::doctor {
namespace {

// Of the kernel's own types, none takes a fifth of either.
constexpr unsigned depth_max = 128;
constexpr std::uint64_t work_max = std::uint64_t{1} << 20;

template <class T>
std::span<const T> behind(const btf_type* type) {
  return {reinterpret_cast<const T*>(type + 1), btf_vlen(type)};
}

/// Whether a condition holds of each name in a type.
template <class Condition>
bool all_names(const btf_type* type, Condition holds) {
  const auto of_each = [&holds](const auto& parts) {
    return std::ranges::all_of(parts, [&holds](const auto& part) { return holds(part.name_off); });
  };
  switch (btf_kind(type)) {
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION:
      return holds(type->name_off) && of_each(behind<btf_member>(type));
    case BTF_KIND_FUNC_PROTO:
      return holds(type->name_off) && of_each(behind<btf_param>(type));
    case BTF_KIND_ENUM:
      return holds(type->name_off) && of_each(behind<struct btf_enum>(type));
    case BTF_KIND_ENUM64:
      return holds(type->name_off) && of_each(behind<struct btf_enum64>(type));
    default:
      return holds(type->name_off);
  }
}

/// Whether a condition holds of each type that a type refers to.
template <class Condition>
bool all_references(const btf_type* type, Condition holds) {
  const auto of_each = [&holds](const auto& parts) {
    return std::ranges::all_of(parts, [&holds](const auto& part) { return holds(part.type); });
  };
  switch (btf_kind(type)) {
    case BTF_KIND_UNKN:  // void
    case BTF_KIND_INT:
    case BTF_KIND_FLOAT:
    case BTF_KIND_ENUM:
    case BTF_KIND_ENUM64:
    case BTF_KIND_FWD:
      return true;
    case BTF_KIND_ARRAY:
      return holds(btf_array(type)->type) && holds(btf_array(type)->index_type);
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION:
      return of_each(behind<btf_member>(type));
    case BTF_KIND_FUNC_PROTO:
      return holds(type->type) && of_each(behind<btf_param>(type));
    case BTF_KIND_DATASEC:
      return of_each(behind<btf_var_secinfo>(type));
    default:
      return holds(type->type);
  }
}

/// How libbpf goes from a type to those it refers to, by itself calling itself.
enum class walk : std::uint8_t {
  sizes,  // into what a type has in itself
  words,  // into what its declaration spells out
};

bool is_structure(const btf_type* type) {
  return btf_kind(type) == BTF_KIND_STRUCT || btf_kind(type) == BTF_KIND_UNION;
}

bool ends_at(const btf* types, const btf_type* type, walk how) {
  const bool named = *btf__name_by_offset(types, type->name_off) != '\0';
  switch (btf_kind(type)) {
    case BTF_KIND_PTR:
    case BTF_KIND_FUNC_PROTO:
      return how == walk::sizes;
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION:
    case BTF_KIND_TYPEDEF:
      return how == walk::words && named;
    default:
      return false;
  }
}

/// What a walk from a type takes.
struct cost {
  std::uint64_t depth = 0;
  std::uint64_t work = 0;  // in parts that are looked at, or printed

  [[nodiscard]] bool is_fair() const noexcept { return depth <= depth_max && work <= work_max; }
};
constexpr cost endless{.depth = depth_max + 1, .work = work_max + 1};

/// What a structure takes by itself: one without a name is spelled out, with all that is between
/// its members, in words of 64 bits.
std::uint64_t own_work(const btf_type* type, walk how) {
  if (how != walk::words || !is_structure(type)) {
    return 1;
  }
  const std::uint64_t members = btf_vlen(type);
  for (std::uint32_t i = 0; i < members; ++i) {
    if (btf_member_bit_offset(type, i) / 8 > type->size) {
      return endless.work;
    }
  }
  return 1 + (members + 1) * (type->size / 8);
}

/// Looks at each type once, also when many refer to it.
class walker {
 public:
  walker(const btf* types, walk how) : types_{types}, how_{how}, known_(btf__type_cnt(types)) {}

  /// @pre all that types refer to is there
  cost from(std::uint32_t id, unsigned above = 0) {
    if (!known_[id]) {
      known_[id] = endless;  // when it is met again before it is done, and below
      if (above < depth_max) {
        known_[id] = measure(id, above);
      }
    }
    return *known_[id];
  }

 private:
  cost measure(std::uint32_t id, unsigned above) {
    const btf_type* const type = btf__type_by_id(types_, id);
    if (ends_at(types_, type, how_)) {
      return {.depth = 1, .work = 1};
    }
    cost sum{.depth = 1, .work = own_work(type, how_)};
    const bool fair = all_references(type, [&](std::uint32_t next) {
      const cost one = from(next, above + 1);
      sum.depth = std::max(sum.depth, one.depth + 1);
      sum.work += one.work;
      return sum.is_fair();
    });
    return fair ? sum : endless;
  }

  const btf* types_;
  walk how_;
  std::vector<std::optional<cost>> known_;
};

}  // namespace

bool are_sound(const btf* types) {
  const std::uint32_t count = btf__type_cnt(types);
  const auto is_name = [types](std::uint32_t offset) {
    return btf__name_by_offset(types, offset) != nullptr;
  };
  const auto is_type = [count](std::uint32_t id) { return id < count; };
  for (std::uint32_t id = 1; id < count; ++id) {
    const btf_type* const type = btf__type_by_id(types, id);
    if (!all_names(type, is_name) || !all_references(type, is_type)) {
      return false;
    }
  }
  walker sizes{types, walk::sizes};
  walker words{types, walk::words};
  for (std::uint32_t id = 1; id < count; ++id) {
    if (!sizes.from(id).is_fair() || !words.from(id).is_fair()) {
      return false;
    }
  }
  return true;
}

}  // namespace runnel::doctor
