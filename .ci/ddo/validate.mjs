// Compares the program's `asset` with the stacks' own validator.
//
//   node validate.mjs PROGRAM ASSET BROKEN
//
// PROGRAM is the built binary, ASSET a filled-in asset, BROKEN the list of changes that break one.
// Three things must hold, else the exit code is 1:
// 1. every version of the schema accepts ASSET;
// 2. PROGRAM refuses every change of BROKEN by the field's name, and ddo-js at least twenty of them;
// 3. of changes made mechanically, each value of ASSET missing or of another kind, PROGRAM accepts
//    none that a version of the schema refuses.
// Where the field is one that publishing fills in, the validator sees it filled in.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DDOManager, validateDDO } from '@oceanprotocol/ddo-js'

const VERSIONS = ['4.1.0', '4.3.0', '4.5.0', '4.7.0']
const NFT = '0x1234567890AbcdEF1234567890aBcdef12345678'.toLowerCase()
const [program, assetPath, brokenPath] = process.argv.slice(2)
const asset = JSON.parse(readFileSync(assetPath, 'utf8'))
const folder = mkdtempSync(join(tmpdir(), 'asset-'))

/** What publishing fills in, so that the validator sees what the node will see. */
function published(document, version) {
  const ddo = structuredClone(document)
  if (version) ddo.version = version
  for (const service of ddo.services) {
    if (Array.isArray(service.files.files)) service.files = '0x04' + '00'.repeat(200)
    service.datatokenAddress = '0xabcdefABCDEFabcdefABCDEFabcdefabcdefABCD'
    service.serviceEndpoint = 'http://127.0.0.1:8001'
  }
  const instance = DDOManager.getDDOClass(ddo)
  instance.updateFields({ id: instance.makeDid(NFT, String(ddo.chainId)), nftAddress: NFT })
  return ddo
}

/** The same asset in the shape of 5.0.0, a credential. */
function wrapped(document) {
  const { id, version, chainId, metadata, services } = published(document)
  const subject = { chainId, nftAddress: NFT, services }
  subject.metadata = { ...metadata, providedBy: metadata.author }
  const ddo = { id: 'did:ope', version: '5.0.0', type: 'VerifiableCredential', issuer: NFT }
  Object.assign(ddo, { credentialSubject: subject })
  const instance = DDOManager.getDDOClass(ddo)
  instance.updateFields({ id: instance.makeDid(NFT, String(chainId)) })
  return ddo
}

/** Whether the validator accepts; a document that it cannot even read counts as refused. */
async function isAccepted(make) {
  try {
    return (await validateDDO(make()))[0]
  } catch {
    return false
  }
}

/** What the program says of a document: its exit code, and the fields that it names. */
function ours(document) {
  const path = join(folder, 'asset.json')
  writeFileSync(path, JSON.stringify(document))
  const { status, stdout, stderr } = spawnSync(program, ['asset', '--template', path], { encoding: 'utf8' })
  const fields = stderr.split('\n').map((line) => line.match(/^ERROR (.*?): /)?.[1]).filter(Boolean)
  if (status !== 0 && stdout) throw new Error('refused, but wrote to stdout')
  return { isAccepted: status === 0, isRefused: status === 2, fields }
}

/** `document` with `value` at a JSON pointer; undefined removes. */
function changed(document, pointer, value) {
  const copy = structuredClone(document)
  const keys = pointer.split('/').slice(1)
  const last = keys.pop()
  const parent = keys.reduce((at, key) => at[key], copy)
  if (value === undefined) delete parent[last]
  else parent[last] = value
  return copy
}

/** Pointers to every value below `value`; of long lists the first items only. */
function pointers(value, pointer = '') {
  if (value === null || typeof value !== 'object') return [pointer]
  const keys = Array.isArray(value) ? [...value.keys()].slice(0, 3) : Object.keys(value)
  const below = keys.flatMap((key) => pointers(value[key], `${pointer}/${key}`))
  return pointer ? [pointer, ...below] : below
}

const OTHERS = [undefined, null, 5, -5, 0.5, true, '', 'x', 'a\nb', 'a\rb', 'x'.repeat(8200), [], {}, ['x'], { x: 5 }]

let failures = 0
function demand(isTrue, text) {
  if (isTrue) return
  failures += 1
  console.log(`FAILED ${text}`)
}

for (const version of VERSIONS) {
  const ok = await isAccepted(() => published(asset, version))
  console.log(`${version} ${ok ? 'accepts' : 'refuses'} the asset`)
  demand(ok, version)
}
const ok = await isAccepted(() => wrapped(asset))
console.log(`5.0.0, wrapped, ${ok ? 'accepts' : 'refuses'} the asset`)
demand(ok, '5.0.0')
demand(ours(asset).isAccepted, 'the program refuses its own asset')

const counts = { theirs: 0, ours: 0 }
const broken = JSON.parse(readFileSync(brokenPath, 'utf8'))
for (const { what, at, value, field } of broken) {
  const document = changed(asset, at, value)
  let isRefused = false
  for (const version of VERSIONS) {
    // The version itself is a field of the asset; where it is what is broken, it stays.
    isRefused ||= !(await isAccepted(() => published(document, at === '/version' ? undefined : version)))
  }
  const { isRefused: isOurs, fields } = ours(document)
  counts.theirs += isRefused
  counts.ours += isOurs
  demand(isOurs && fields.includes(field), `${what}: expected ${field}, came ${fields.join(', ') || 'no refusal'}`)
}
console.log(`${broken.length} broken assets: ddo-js refuses ${counts.theirs}, the program ${counts.ours}, each by name`)
demand(counts.theirs >= 20, 'the list breaks too little of what ddo-js sees')

const mechanical = { all: 0, accepted: 0 }
for (const pointer of pointers(asset)) {
  if (pointer.startsWith('/indexedMetadata') || pointer.startsWith('/@context')) continue // not validated
  for (const value of OTHERS) {
    const document = changed(asset, pointer, value)
    mechanical.all += 1
    if (!ours(document).isAccepted) continue
    mechanical.accepted += 1
    for (const version of pointer === '/version' ? [undefined] : VERSIONS) {
      const isTheirs = await isAccepted(() => published(document, version))
      demand(isTheirs, `${pointer} = ${JSON.stringify(value)?.slice(0, 40)}: only ddo-js ${version} refuses it`)
    }
  }
}
console.log(`${mechanical.all} mechanical changes: ddo-js accepts all ${mechanical.accepted} that the program accepts`)
demand(mechanical.accepted > 0, 'the program accepts no change at all')
rmSync(folder, { recursive: true })
process.exit(failures ? 1 : 0)
