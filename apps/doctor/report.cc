#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/doctor/doctor.h"

namespace runnel::doctor {
namespace {

using json = nlohmann::ordered_json;

json text_or_null(const std::string& text) {
  return text.empty() ? json{} : json(text);
}

json member_json(const member& one, bool is_told) {
  json out;
  out["name"] = one.what.name;
  out["declaration"] = one.what.declaration;
  out["offset_bits"] = is_told ? json(one.what.offset_bits) : json{};
  out["bits"] = one.what.bits == 0 ? json{} : json(one.what.bits);
  out["known_of"] = one.known_of;
  return out;
}

json structure_json(const structure& one) {
  json out;
  out["name"] = one.name;
  out["kernel"] = one.kernel;
  out["source"] = one.is_told() ? "btf" : "table";
  out["from"] = text_or_null(one.from);
  out["why"] = text_or_null(one.why_known);
  out["bytes"] = one.bytes == 0 ? json{} : json(one.bytes);
  out["fields"] = json::array();
  for (const member& each : one.members) {
    out["fields"].push_back(member_json(each, one.is_told()));
  }
  out["absent"] = json::array();
  for (const lacking& each : one.absent) {
    out["absent"].push_back({{"declaration", each.declaration}, {"known_of", each.known_of}});
  }
  return out;
}

/// Names of members that are known of no other kernel.
std::vector<std::string_view> news_of(const structure& one) {
  std::vector<std::string_view> names;
  for (const member& each : one.members) {
    if (each.known_of.empty()) {
      names.push_back(each.what.name);
    }
  }
  return names;
}

std::string in_short(const structure& one) {
  if (!one.is_told()) {
    return fmt::format("{} members, as known of Linux {}", one.members.size(), one.from);
  }
  if (one.from.empty()) {
    return "there is none";
  }
  const auto news = news_of(one);
  return fmt::format("{} bytes, {} members{}{}", one.bytes, one.members.size(),
                     news.empty() ? "" : "; new: ", fmt::join(news, ", "));
}

using row = std::array<std::string, 3>;

/// A heading, then rows whose last column may be as long as it is.
std::string section(std::string_view heading, const std::vector<row>& rows) {
  std::string out = rows.empty() ? "" : fmt::format("{}:\n", heading);
  std::size_t width = 0;
  for (const row& each : rows) {
    width = std::max(width, each[1].size());
  }
  for (const row& each : rows) {
    out += fmt::format("  {:<7}  {:<{}}  {}\n", each[0], each[1], width, each[2]);
  }
  return out;
}

std::string structures_text(const std::vector<structure>& all) {
  std::vector<row> rows;
  for (const structure& each : all) {
    rows.push_back({each.is_told() ? "btf" : "table", each.name, in_short(each)});
  }
  if (all.empty()) {
    return "";
  }
  const std::string& why = all.front().why_known;
  return section("structures of Linux " + all.front().kernel, rows) +
         (why.empty() ? "" : "  no more is known: " + why + "\n");
}

}  // namespace

std::string to_json(const diagnosis& what) {
  json out;
  out["kernel"] = what.kernel;
  out["checks"] = json::array();
  for (const check& each : what.checks) {
    out["checks"].push_back({{"id", each.id},
                             {"status", to_string(each.status)},
                             {"cause", each.cause},
                             {"remedy", each.remedy}});
  }
  out["interfaces"] = json::array();
  for (const interface& each : what.interfaces) {
    out["interfaces"].push_back({{"name", each.name}, {"works", each.works}, {"why", each.why}});
  }
  out["devices"] = json::array();
  for (const treatment& each : what.devices) {
    out["devices"].push_back({{"address", each.address},
                              {"driver", text_or_null(each.driver)},
                              {"transport", pci::to_string(each.serving.how)},
                              {"node", text_or_null(each.serving.node)},
                              {"why", each.serving.why}});
  }
  out["structures"] = json::array();
  for (const structure& each : what.structures) {
    out["structures"].push_back(structure_json(each));
  }
  return out.dump(2, ' ', false, json::error_handler_t::replace);
}

std::string to_text(const diagnosis& what) {
  std::vector<row> checks;
  for (const check& each : what.checks) {
    checks.push_back({std::string{to_string(each.status)}, std::string{each.id},
                      each.cause + (each.remedy.empty() ? "" : "; remedy: " + each.remedy)});
  }
  std::vector<row> interfaces;
  for (const interface& each : what.interfaces) {
    interfaces.push_back({each.works ? "works" : "-", std::string{each.name}, each.why});
  }
  std::vector<row> devices;
  for (const treatment& each : what.devices) {
    devices.push_back(
        {std::string{pci::to_string(each.serving.how)}, each.address, each.serving.why});
  }
  return section("checks", checks) + section("ways to devices", interfaces) +
         section("PCI devices, and the way to each", devices) + structures_text(what.structures);
}

}  // namespace runnel::doctor
