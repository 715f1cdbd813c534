"""The words of thirteen languages that an answer is made of: letters, yes, no, numbers, denials and refusals.

One table, a `Language` each. `spatialvlm.parsing.translation` puts the English in place of the words.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """One language.

    Args:
        phrases: entries "English: word | word; ..." of what means the English; the longest that fits
            counts. A blank stands for blanks, "~" for any ending and "_" for up to three words.
        units: number words from 0 on, alternatives with "/".
        others: further numbers, "value word/word ...".
        joins: words between the parts of a number ("treinta y uno").
        frequent: words by which a text in Latin script is recognized.
        one: the article that counts where something is there ("hay una silla").
    """

    phrases: str
    units: str = ""
    others: str = ""
    joins: str = ""
    frequent: str = ""
    one: str = ""

    def entries(self) -> dict[str, list[str]]:
        """English and what means it."""
        pairs = (entry.partition(": ") for entry in " ".join(self.phrases.split()).split("; "))
        return {english: words.split(" | ") for english, _, words in pairs}


SPANISH = Language(
    phrases="""
    yes: sí | claro que sí | por supuesto que sí | así es | efectivamente | exacto | desde luego | sí
    claro; no: claro que no | por supuesto que no | en absoluto | para nada | no es así | no lo es; no
    doubt: sin duda | no hay duda | no cabe duda; please upload: por supuesto _ suba | suba la | sube la
    | cargue la | adjunte | adjunta | envíe la | envíame | comparta la | por favor; cannot determine: no
    puedo | no se puede | no es posible | no sé | no lo sé | no veo | no logro | imposible | es difícil |
    difícil de | no está claro | depende | no tengo | desconozco | no consigo | no hay suficiente | no
    alcanzo | no sabría; not sure: no estoy segur~ | no estoy del todo; no image provided: no se
    proporcionó | no se ha proporcionado | ninguna imagen | no hay imagen | no hay ninguna imagen | sin
    imagen | no veo la imagen | no veo ninguna imagen | no puedo ver; error:: demasiadas solicitudes |
    tiempo de espera agotado; note:: nota:; partly: parcialmente | en parte | a medias | medio | más o
    menos | no del todo | no es del todo; true: verdadero | verdadera | verdad | cierto | cierta;
    correct: correcto | correcta | correctas | correctos; false: falso | falsa; wrong: incorrecto |
    incorrecta | incorrectas | incorrectos; not: no es | no son | no está | no era; there are no: no hay
    ninguna | no hay ningún | no hay | ninguna | ninguno | ningún | no se ve ninguna | no veo ninguna;
    there are: hay; neither: ni; but: sino | pero; or: o | u; and: y; so: por lo tanto | por tanto | así
    que | entonces | en conclusión | por eso; in total: en total | total; leaving: queda | quedando |
    solo queda; ruling out: descarto | descartando | descartamos | elimino | eliminando; instead of: en
    lugar de | en vez de; because: porque | ya que | puesto que; answer: respuesta | contestación; final:
    final; option: opción | alternativa | la letra | letra; choose: elijo | elegiría | escojo |
    selecciono | me quedo con | me inclino por | yo diría; is: es | sería | son | está; maybe: quizás |
    tal vez | probablemente | creo que; could be: podría ser | puede ser; about: aproximadamente | unos |
    unas | alrededor de | cerca de | casi; more than: más de | mayor que | menos de | menor que; at
    least: como mínimo | por lo menos | al menos | como máximo | a lo sumo | mínimo | máximo; between:
    entre; confidence: confianza | seguridad; left: izquierda; right: derecha; front: delante | enfrente;
    behind: detrás | atrás; above: arriba | encima; below: abajo | debajo; and half: y medio | y media;
    conclusion: conclusión
    """,
    units="""
    cero uno/una dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince
    dieciséis diecisiete dieciocho diecinueve
    """,
    others="""
    20 veinte 21 veintiuno/veintiún/veintiuna 22 veintidós 23 veintitrés 24 veinticuatro 25 veinticinco
    26 veintiséis 27 veintisiete 28 veintiocho 29 veintinueve 30 treinta 40 cuarenta 50 cincuenta 60
    sesenta 70 setenta 80 ochenta 90 noventa 100 cien/ciento 200 doscientos/doscientas 1000 mil
    """,
    joins="y",
    frequent="""
    el la los las un una es está hay en de del que con se no sí y por para al lo más su como sillas silla
    imagen respuesta opción ni sino pero ninguna ninguno sin mesa
    """,
    one="un/una",
)
PORTUGUESE = Language(
    phrases="""
    yes: sim | claro que sim | com certeza | isso mesmo | exatamente | exato; no: não | claro que não |
    de jeito nenhum | de modo algum | nada disso; no doubt: sem dúvida | não há dúvida; please upload:
    envie a | carregue a | anexe | por favor | claro _ envie | compartilhe a; cannot determine: não posso
    | não é possível | não sei | não vejo | não consigo | impossível | é difícil | difícil | não está
    claro | depende | não tenho | não saberia; not sure: não tenho certeza | não estou cert~; no image
    provided: nenhuma imagem | não há imagem | sem imagem | sem a imagem | não vejo a imagem | não vejo
    nenhuma imagem | não consigo ver | cadê a imagem; error:: erro | tente novamente; note:: nota:;
    partly: parcialmente | em parte | mais ou menos | meio | não totalmente | não completamente; true:
    verdadeiro | verdadeira | verdade; correct: correto | correta | certo | certa | corretas | corretos;
    false: falso | falsa; wrong: incorreto | incorreta | errado | errada; not: não é | não são | não
    está; there are no: não há nenhuma | não há nenhum | não há | nenhuma | nenhum | não existem | não
    vejo nenhuma; there are: há | existem; neither: nem; but: mas; or: ou; and: e; so: portanto | logo |
    assim | então | em conclusão | por isso; in total: no total | ao todo | total; leaving: resta |
    restando | sobra | restou; ruling out: elimino | eliminando | descarto | descartando; instead of: em
    vez de; because: porque | pois | já que; answer: resposta; option: opção | alternativa | letra;
    choose: escolho | seleciono | eu diria | fico com; is: é | seria | são | está; maybe: talvez |
    provavelmente | acho que; could be: pode ser | poderia ser; about: aproximadamente | cerca de | uns |
    umas | quase; more than: mais de | maior que | menos de | menor que; at least: no mínimo | pelo menos
    | ao menos | no máximo | mínimo de | máximo de; between: entre; confidence: confiança; left:
    esquerda; right: direita; front: frente; behind: atrás; above: acima; below: abaixo | embaixo; and
    half: e meio | e meia; conclusion: conclusão; in: no | na
    """,
    units="""
    zero um/uma dois/duas três quatro cinco seis sete oito nove dez onze doze treze quatorze/catorze
    quinze dezesseis/dezasseis dezessete/dezassete dezoito dezenove/dezanove
    """,
    others="""
    20 vinte 30 trinta 40 quarenta 50 cinquenta 60 sessenta 70 setenta 80 oitenta 90 noventa 100
    cem/cento 200 duzentos/duzentas 1000 mil
    """,
    joins="e",
    frequent="""
    lado esquerdo direito canto chão onde
    o a os as um uma é está há em de do da no na que com não sim e por para se mais ao cadeira cadeiras
    imagem resposta opção nem mas são nenhuma letra ou isso pelo
    """,
    one="um/uma",
)
FRENCH = Language(
    phrases="""
    yes: oui | si | bien sûr que oui | tout à fait | en effet | exactement | absolument | bien sûr; no:
    non | bien sûr que non | pas du tout | absolument pas | pas vraiment | certainement pas; no doubt:
    sans aucun doute | sans doute; please upload: bien sûr _ envoyez | envoyez-moi | envoyez | veuillez |
    télécharge~ | pouvez-vous | s'il vous plaît | partagez; cannot determine: je ne peux pas | je ne sais
    pas | je ne vois pas | impossible | difficile | ne peut pas | ne permet pas | on ne peut pas | pas
    clair | ça dépend | cela dépend | inconnu | je ne suis pas en mesure | je ne parviens pas | n'est pas
    possible; not sure: je ne suis pas sûr~ | pas sûr | pas sûre | pas certain; no image provided: aucune
    image | pas d'image | je ne vois pas l'image | sans image | sans l'image | image manquante; error::
    erreur | délai dépassé | réessayez | trop de requêtes; partly: partiellement | en partie | à moitié |
    plus ou moins | pas tout à fait | pas entièrement; true: vrai | vraie; correct: correct | correcte |
    exact | exacte | juste; false: faux | fausse; wrong: incorrect | incorrecte | inexact | inexacte;
    not: n'est pas | ne sont pas | ce n'est pas | pas; there are no: il n'y a pas de | il n'y a pas d' |
    il n'y a aucune | il n'y a aucun | aucune | aucun | je ne vois aucune | il n'y en a pas; there are:
    il y a; neither: ni; but: mais; or: ou | ou bien; and: et; so: donc | par conséquent | ainsi | alors
    | en conclusion; in total: au total | en tout | total; leaving: il reste | reste | il ne reste que;
    ruling out: j'élimine | on élimine | en éliminant | j'exclus | on exclut; instead of: plutôt que | au
    lieu de; because: parce que | car | puisque; answer: réponse; option: l'option | option | la lettre |
    lettre; choose: je choisis | je choisirais | je dirais | j'opte pour; is: est | serait | sont |
    c'est; maybe: peut-être | probablement | je pense que; could be: pourrait être | peut être; about:
    environ | à peu près | approximativement | presque; more than: plus de | moins de | supérieur à |
    inférieur à; at least: au moins | au minimum | au plus | au maximum | minimum | maximum; between:
    entre; confidence: confiance; left: gauche; right: à droite | droite; front: devant; behind:
    derrière; above: au-dessus; below: en dessous | au-dessous; new: est neuf | est neuve | sont neufs |
    tout neuf; and half: et demi | et demie; conclusion: conclusion
    """,
    units="""
    zéro un/une deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize
    dix-sept dix-huit dix-neuf
    """,
    others="""
    20 vingt 30 trente 40 quarante 50 cinquante 60 soixante 70 soixante-dix/septante 71 soixante-et-onze
    80 quatre-vingts/quatre-vingt/huitante 90 quatre-vingt-dix/nonante 91 quatre-vingt-onze 100
    cent/cents 1000 mille
    """,
    joins="et",
    frequent="""
    le la les un une est il y a en de du des que dans avec oui non et pour sur ce c'est n'est pas ne je
    chaise chaises réponse ni mais au aux aucune donc l'image d'après sont
    """,
    one="un/une",
)
ITALIAN = Language(
    phrases="""
    yes: sì | certo che sì | esatto | esattamente; no: no | certo che no | per niente | affatto; cannot
    determine: non posso | non so | non vedo | impossibile | difficile | dipende | non è possibile | non
    riesco; not sure: non sono sicur~; no image provided: nessuna immagine | non vedo l'immagine | non
    vedo alcuna; error:: errore; partly: parzialmente | in parte; true: vero | vera; correct: corretto |
    corretta | giusto | giusta; false: falso | falsa; wrong: sbagliato | sbagliata | errato | errata;
    not: non è | non sono | non; there are no: non ci sono | non c'è | nessuna | nessun | nessuno; there
    are: ci sono; neither: né; but: ma | bensì; or: o | oppure; and: e; so: quindi | perciò | dunque; in
    total: in totale | totale; instead of: invece di; because: perché | poiché; answer: risposta; option:
    opzione; choose: scelgo; is: è; about: circa; more than: più di | meno di; at least: almeno | al
    massimo | al minimo; between: tra | fra; confidence: fiducia; left: sinistra; right: destra; and
    half: e mezzo | e mezza; conclusion: conclusione
    """,
    units="""
    zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici
    sedici diciassette diciotto diciannove
    """,
    others="""
    20 venti 30 trenta 40 quaranta 50 cinquanta 60 sessanta 70 settanta 80 ottanta 90 novanta 100 cento
    1000 mille
    """,
    frequent="""
    il lo la gli un una è ci sono di del della che con si sì e per non sedie risposta né nessuna poi c'è
    trova vero
    """,
)
GERMAN = Language(
    phrases="""
    yes: ja | jawohl | genau | stimmt | das stimmt | doch | natürlich | selbstverständlich | auf jeden
    fall | allerdings; no: nein | keineswegs | auf keinen fall | keinesfalls | überhaupt nicht |
    natürlich nicht | das stimmt nicht | stimmt nicht | nö | ganz und gar nicht | nicht wirklich; no
    doubt: ohne zweifel | kein zweifel | zweifellos; well: na ja | naja | jein; please upload: bitte
    laden | laden sie | lade das | bitte schicken | bitte senden | bitte geben | gerne | können sie;
    cannot determine: ich kann | kann ich | ich weiß _ nicht | weiß ich nicht | ich weiß es nicht | kann
    nicht | nicht möglich | unmöglich | schwer zu sagen | lässt sich nicht | nicht erkennbar | nicht zu
    erkennen | unklar | kommt darauf an | unbekannt | nicht genug | keine ahnung | nicht feststellen |
    nicht bestimmen | nicht beurteilen; not sure: nicht sicher | unsicher; no image provided: kein bild |
    ein bild fehlt | ohne bild | das bild fehlt | keine abbildung | sehe kein bild; error:: fehler |
    zeitüberschreitung | zu viele anfragen; partly: teilweise | zum teil | halb | nur bedingt | nicht
    ganz | nicht völlig; true: wahr; correct: richtig | korrekt | zutreffend; false: falsch; wrong:
    unwahr | inkorrekt | unzutreffend | scheiden aus | scheidet aus | fallen weg | fällt weg | entfällt |
    entfallen; not: nicht | ist nicht; there are no: keine | kein | keiner | keinen; there are: es gibt |
    es sind; neither: weder; nor: noch; but: sondern | aber | vielmehr; or: oder | bzw.; and: und; so:
    also | daher | deshalb | somit | folglich | demnach; in total: insgesamt | zusammen | in summe;
    leaving: bleibt | übrig bleibt | es bleibt; ruling out: ich schließe _ aus; instead of: statt |
    anstatt; because: weil | denn | da; answer: antwort | lösung | ergebnis; option: option | variante |
    buchstabe; choose: ich wähle | ich tippe auf | ich würde sagen | ich nehme | ich entscheide mich für;
    is: ist | lautet | wäre | wären | beträgt | sind; maybe: vielleicht | wahrscheinlich | vermutlich |
    wohl | ich denke | ich glaube; could be: könnte; about: etwa | ungefähr | circa | rund | ca.; more
    than: mehr als | weniger als | größer als | kleiner als; at least: mindestens | höchstens | maximal |
    minimal | wenigstens | bis zu; between: zwischen; to: bis; confidence: konfidenz | sicherheit |
    zuversicht; left: links; right: rechts; front: vorne | vor; behind: hinten | hinter; above: oben |
    über; below: unten | unter; is correct: trifft zu; is wrong: trifft nicht zu; conclusion: fazit |
    schlussfolgerung
    """,
    units="""
    nullkommanull eins zwei/zwo drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn
    fünfzehn sechzehn siebzehn achtzehn neunzehn
    """,
    others="""
    20 zwanzig 30 dreißig/dreissig 40 vierzig 50 fünfzig 60 sechzig 70 siebzig 80 achtzig 90 neunzig 100
    hundert/einhundert 1000 tausend/eintausend 1.5 anderthalb/eineinhalb 2.5 zweieinhalb 3.5 dreieinhalb
    4.5 viereinhalb
    """,
    frequent="""
    sieht nichts wird wurde nur auch steht liegt dort hier wie für dass
    der die das den dem ein eine einen ist sind es im in mit auf und nicht ja nein zu von ich sich kein
    keine stuhl stühle bild antwort oder weder noch aussage links rechts bitte na lampe z b d h
    """,
    one="ein/eine/einen",
)
INDONESIAN = Language(
    phrases="""
    yes: ya | iya | betul | tentu saja | benar sekali | ya benar; no: tidak | tidak sama sekali | tentu
    tidak | sama sekali tidak | tentu saja tidak; no doubt: tidak diragukan lagi | tanpa ragu; please
    upload: tentu _ silakan | silakan | tolong | mohon | unggah; cannot determine: tidak dapat | tidak
    bisa | tidak tahu | tidak mungkin | sulit | belum tentu | tergantung | tidak jelas | tidak diketahui
    | tidak pasti; not sure: tidak yakin | kurang yakin | ragu; no image provided: tidak ada gambar |
    gambar tidak | tanpa gambar; error:: kesalahan | galat | coba lagi; partly: sebagian | setengah benar
    | tidak sepenuhnya; true: benar; correct: tepat; false: salah; wrong: keliru; not: bukan; there are
    no: tidak ada | tak ada; there are: ada; nor: maupun; but: melainkan | tetapi | tapi | namun; or:
    atau; and: dan; so: jadi | oleh karena itu | maka | dengan demikian; in total: total | jumlahnya |
    seluruhnya; leaving: tersisa | sisanya | tinggal; ruling out: menyingkirkan | mengeliminasi; instead
    of: dan bukan | bukannya | daripada; because: karena | sebab; answer: jawaban; option: opsi |
    pilihan; choose: saya memilih | saya pilih; is: adalah | ialah | yaitu; maybe: mungkin; about:
    sekitar | kira-kira | kurang lebih | hampir; more than: lebih dari | kurang dari; at least: minimal |
    paling sedikit | setidaknya | paling banyak | maksimal | sedikitnya; between: antara; to: sampai |
    hingga; confidence: keyakinan | tingkat keyakinan | kepercayaan; left: kiri; right: kanan; front:
    depan; behind: belakang; above: atas; below: bawah; is not correct: tidak benar | tidak tepat; and
    half: setengah; conclusion: kesimpulan
    """,
    units="nol satu dua tiga empat lima enam tujuh delapan sembilan sepuluh sebelas",
    others="""
    12 dua belas 13 tiga belas 14 empat belas 15 lima belas 16 enam belas 17 tujuh belas 18 delapan belas
    19 sembilan belas 20 dua puluh 30 tiga puluh 40 empat puluh 50 lima puluh 60 enam puluh 70 tujuh
    puluh 80 delapan puluh 90 sembilan puluh 100 seratus 1000 seribu 1 sebuah/seekor/seorang
    """,
    frequent="""
    ada di yang itu ini dan tidak bukan dengan ke dari kursi gambar jawaban adalah saya atau sebelah meja
    pada tersebut jadi
    """,
)
RUSSIAN = Language(
    phrases="""
    yes: да | конечно да | именно | безусловно | так и есть; no: нет | конечно нет | вовсе нет | никак
    нет | это не так | не так | отнюдь; no doubt: без сомнения | нет сомнений | несомненно; please
    upload: загрузите | пришлите | пожалуйста | отправьте | прикрепите; cannot determine: не могу | не
    знаю | невозможно | нельзя | трудно сказать | сложно сказать | трудно | неизвестно | неясно | зависит
    | недостаточно | не удалось | не удаётся; not sure: не уверен | не уверена | сомневаюсь; no image
    provided: не вижу изображени~ | нет изображения | изображение не | без изображения | не вижу картинк~
    | не вижу фото; error:: ошибка | слишком много запросов | сервис недоступен | повторите; partly:
    частично | отчасти | наполовину | не совсем | не вполне; true: верно | правда | истинно | истина |
    верным | верна | да верно; correct: правильно | правильный | правильная | правильны | верный; false:
    неверно | ложь | ложно | неправда | неверна | ложна; wrong: неправильно | неправильный | неверный |
    не подходит | не подходят | исключены | исключается | отпадает | отпадают; not: не | это не; there
    are no: нет никаких | не видно | ни одного | ни одной; none: нисколько; neither: ни; but: а | но; or:
    или | либо; and: и; so: следовательно | поэтому | значит | таким образом | итак; in total: всего |
    итого | в сумме; leaving: остаётся | остается; ruling out: исключаю | исключаем | исключив |
    отбрасываем; instead of: а не | вместо; because: потому что | так как | поскольку; answer: ответ;
    final: окончательный | итоговый | финальный; option: вариант | опция | буква; choose: выбираю |
    выбрал | выбрала | я бы выбрал; maybe: возможно | наверное | вероятно | скорее всего | думаю; about:
    около | примерно | приблизительно | почти; more than: больше | более | меньше | менее | больше чем |
    свыше; at least: не менее | как минимум | минимум | не более | максимум | по крайней мере | не больше
    | не меньше | хотя бы; between: от | между; to: до; confidence: уверенность; left: слева | влево |
    левее | левая | левый; right: справа | вправо | правее | правая | правый; front: спереди | впереди |
    перед; behind: сзади | позади; above: сверху | выше; below: снизу | ниже; and half: с половиной;
    conclusion: вывод | заключение
    """,
    units="""
    ноль/нуль один/одна/одно два/две/двух три/трёх/трех четыре/четырёх/четырех пять/пяти шесть/шести
    семь/семи восемь/восьми девять/девяти десять/десяти одиннадцать двенадцать тринадцать четырнадцать
    пятнадцать шестнадцать семнадцать восемнадцать девятнадцать
    """,
    others="""
    20 двадцать 30 тридцать 40 сорок 50 пятьдесят 60 шестьдесят 70 семьдесят 80 восемьдесят 90 девяносто
    100 сто 200 двести 300 триста 1000 тысяча/тысячи 1.5 полтора/полторы 2 двое 3 трое 4 четверо
    """,
)
HINDI = Language(
    phrases="""
    yes: हाँ | हां | जी हाँ | जी हां | जी | बिल्कुल | हाँ जी | बिलकुल; no: नहीं | जी नहीं | बिल्कुल नहीं |
    ना | नही | ऐसा नहीं है; please upload: अपलोड | कृपया | भेजें | छवि चाहिए; cannot determine: नहीं सकता
    | नहीं सकती | नहीं पता | पता नहीं | नहीं कर सकता | नहीं कर सकती | नहीं देख सकता | नहीं देख सकती |
    नहीं चुन सकता | नहीं गिन सकता | कहना मुश्किल | कहना कठिन | संभव नहीं | असंभव | स्पष्ट नहीं | निर्भर करता
    | मालूम नहीं | नहीं मालूम | नहीं बता सकता; not sure: यकीन नहीं | निश्चित नहीं | पक्का नहीं; no image
    provided: छवि उपलब्ध नहीं | कोई छवि नहीं | छवि नहीं | चित्र नहीं | कोई चित्र नहीं | तस्वीर नहीं; error::
    त्रुटि; partly: आंशिक रूप से | आंशिक | आधा; true: सच | सत्य; false: गलत | ग़लत | असत्य | झूठ; is not but:
    नहीं बल्कि | नहीं है बल्कि; is not correct: सही नहीं | सच नहीं | सत्य नहीं | सही नहीं है | सच नहीं है |
    सत्य नहीं है; there are no: कोई _ नहीं है | कोई _ नहीं हैं | कोई भी _ नहीं | कोई नहीं | एक भी _ नहीं;
    or: या | अथवा; and: और; but: बल्कि | लेकिन; neither: न | न तो; so: इसलिए | अतः; in total: कुल | कुल
    मिलाकर; because: क्योंकि; answer: उत्तर | जवाब; final: अंतिम; option: विकल्प; maybe: शायद | संभवतः;
    about: लगभग | करीब | तकरीबन; at least: कम से कम | अधिक से अधिक | ज्यादा से ज्यादा | न्यूनतम | अधिकतम;
    between: के बीच; to: से; confidence: विश्वास | आत्मविश्वास; left: बाईं | बाएँ | बाएं | बायीं | बायाँ;
    right: दाईं | दाएँ | दाएं | दायीं | दाहिनी | दाहिने; front: सामने | आगे; behind: पीछे; above: ऊपर;
    below: नीचे; is correct: सही | ठीक | सही है | सही हैं; or more: से अधिक | से ज्यादा | से ज़्यादा | से
    कम; conclusion: निष्कर्ष
    """,
    units="""
    शून्य एक दो तीन चार पाँच/पांच छह/छः/छ सात आठ नौ दस ग्यारह बारह तेरह चौदह पंद्रह/पन्द्रह सोलह सत्रह अठारह
    उन्नीस
    """,
    others="""
    20 बीस 21 इक्कीस 22 बाईस 23 तेईस 24 चौबीस 25 पच्चीस 30 तीस 40 चालीस 50 पचास 60 साठ 70 सत्तर 80 अस्सी 90
    नब्बे 100 सौ 1000 हज़ार/हजार 1.5 डेढ़ 2.5 ढाई
    """,
)
BENGALI = Language(
    phrases="""
    yes: হ্যাঁ | হ্যা | হাঁ | অবশ্যই | ঠিক তাই | জি; no: না | একদম না | মোটেই না | একদমই না | তা নয়; please
    upload: পাঠান | আপলোড | অনুগ্রহ করে | দয়া করে | ছবিটি পাঠান | ছবি পাঠান; cannot determine: জানি না |
    বলা যায় না | পারছি না | পারি না | বলা কঠিন | সম্ভব নয় | সম্ভব না | অসম্ভব | স্পষ্ট নয় | নির্ভর করে | যাচ্ছে
    না | বলতে পারছি না; not sure: নিশ্চিত নই | নিশ্চিত না; no image provided: ছবি নেই | কোনো ছবি নেই |
    ছবিটি দেখা যাচ্ছে না | ছবি দেখা যাচ্ছে না | ছবি দেওয়া হয়নি | ছবি দেখতে; error:: ত্রুটি; partly:
    আংশিকভাবে | আংশিক | অর্ধেক; true: সত্য | সত্যি; false: ভুল | মিথ্যা; is not correct: সঠিক নয় | সত্য নয় |
    ঠিক নয় | সত্যি নয়; there are no: কোনো _ নেই | কোন _ নেই | কোনো _ দেখা যাচ্ছে না | একটিও _ নেই | কিছুই
    নেই; or: বা | অথবা | নাকি; and: এবং | আর | ও; is not: নয়; but: বরং | কিন্তু; so: তাই | সুতরাং | অতএব;
    in total: মোট | সর্বমোট; because: কারণ; answer: উত্তর; final: চূড়ান্ত; option: বিকল্প | অপশন; is: হলো |
    হল | হচ্ছে; maybe: সম্ভবত | হয়তো; about: প্রায় | আনুমানিক; or more: টির বেশি | এর বেশি | এর চেয়ে বেশি |
    টির কম | এর কম | বেশি; at least: কমপক্ষে | অন্তত | সর্বোচ্চ | সর্বনিম্ন; to: থেকে; confidence: আত্মবিশ্বাস |
    আস্থা; left: বাম | বামে | বাঁ | বাঁদিকে | বাঁয়ে; right: ডান | ডানে | ডানদিকে; front: সামনে; behind:
    পিছনে | পেছনে; above: উপরে | ওপরে; below: নিচে | নীচে; is correct: সঠিক | ঠিক; conclusion: উপসংহার
    """,
    units="""
    শূন্য এক/একটি/একটা দুই/দুটি/দুটো/দু তিন/তিনটি/তিনটা চার/চারটি/চারটা পাঁচ/পাঁচটি/পাঁচটা ছয়/ছয়টি/ছয়টা
    সাত/সাতটি/সাতটা আট/আটটি/আটটা নয়টি/নয়টা দশ/দশটি/দশটা এগারো/এগারোটি বারো/বারোটি তেরো/তেরোটি চৌদ্দ/চৌদ্দটি
    পনেরো/পনেরোটি ষোলো/ষোলোটি সতেরো/সতেরোটি আঠারো/আঠারোটি উনিশ/উনিশটি
    """,
    others="""
    20 বিশ/বিশটি/কুড়ি/কুড়িটি 21 একুশ/একুশটি 22 বাইশ 25 পঁচিশ 30 ত্রিশ/ত্রিশটি 40 চল্লিশ 50 পঞ্চাশ 60 ষাট 70
    সত্তর 80 আশি 90 নব্বই 100 একশ/একশো 1000 হাজার 1.5 দেড় 2.5 আড়াই
    """,
)
ARABIC = Language(
    phrases="""
    yes: نعم | أجل | بلى | بالتأكيد | بالطبع | طبعا | طبعًا; no: لا | كلا | ليس كذلك | بالطبع لا | قطعا لا
    | أبدا | بالتأكيد لا; no doubt: لا شك | بلا شك | بدون شك; please upload: يرجى | من فضلك | أرسل | ارفع
    | حمّل; cannot determine: لا أستطيع | لا يمكن | لا أعرف | لا أرى | لا يمكنني | لا أدري | من الصعب |
    يصعب | غير واضح | غير معروف | يعتمد | لم أتمكن | غير ممكن | مستحيل | لا أعلم; not sure: لست متأكد~ |
    غير متأكد~; no image provided: لا توجد صورة | لا أرى الصورة | لا أرى صورة | بدون صورة | لم يتم إرفاق
    | لا يوجد صورة; error:: خطأ: | خطأ في | انتهت المهلة; partly: جزئيًا | جزئيا | إلى حد ما; true: صحيح |
    صحيحة | صحيحًا | صحيحا | حقيقي; correct: الصحيحة | الصحيح | صواب | صح; false: خطأ | خاطئ | خاطئة | غير
    صحيح | غير صحيحة | كاذبة | باطل | غلط; not: ليس | ليست | ليسا; and no: ولا; there are no: لا توجد |
    لا يوجد | ليس هناك | لا يوجد أي | لا توجد أي; there are: هناك | يوجد | توجد; or: أو | أم; and: و;
    but: بل | لكن | ولكن; so: إذن | لذلك | إذًا | وبالتالي | لذا; in total: المجموع | في المجموع |
    الإجمالي | أي; because: لأن | لأنه; answer: الجواب | الإجابة | جواب | إجابة; final: النهائي |
    النهائية; option: الخيار | خيار | الحرف; choose: أختار | اخترت; is: هو | هي; maybe: ربما | على
    الأرجح; could be: قد يكون | يمكن أن يكون; about: حوالي | تقريبا | تقريبًا | نحو; more than: أكثر من |
    أقل من; at least: على الأقل | ما لا يقل عن | كحد أدنى | لا يزيد عن | كحد أقصى | على الأكثر; between:
    بين; to: إلى; confidence: الثقة | ثقة; left: اليسار | يسار | يسارًا; right: اليمين | يمين | يمينًا;
    front: أمام | الأمام; behind: خلف | وراء; above: فوق | أعلى; below: تحت | أسفل; and half: ونصف | و
    نصف; conclusion: الخلاصة | الاستنتاج
    """,
    units="""
    صفر واحد/واحدة اثنان/اثنين/اثنتان/اثنتين/إثنان ثلاثة/ثلاث أربعة/أربع خمسة/خمس ستة/ست سبعة/سبع
    ثمانية/ثمان/ثماني تسعة/تسع عشرة/عشر
    """,
    others="""
    11 أحد عشر/إحدى عشرة 12 اثنا عشر/اثني عشر/اثنتا عشرة 13 ثلاثة عشر/ثلاث عشرة 14 أربعة عشر/أربع عشرة 15
    خمسة عشر/خمس عشرة 16 ستة عشر/ست عشرة 17 سبعة عشر/سبع عشرة 18 ثمانية عشر/ثماني عشرة 19 تسعة عشر/تسع
    عشرة 20 عشرون/عشرين 30 ثلاثون/ثلاثين 40 أربعون/أربعين 50 خمسون/خمسين 60 ستون/ستين 70 سبعون/سبعين 80
    ثمانون/ثمانين 90 تسعون/تسعين 100 مئة/مائة 1000 ألف
    """,
    joins="و",
)
URDU = Language(
    phrases="""
    yes: ہاں | جی ہاں | جی | بالکل | ہاں جی; no: نہیں | جی نہیں | بالکل نہیں | ہرگز نہیں | ایسا نہیں ہے;
    please upload: جی ضرور | براہ کرم | بھیجیں | اپلوڈ | برائے مہربانی | ضرور; cannot determine: نہیں
    دیکھ سکتا | نہیں دیکھ سکتی | نہیں کر سکتا | نہیں کر سکتی | نہیں معلوم | معلوم نہیں | نہیں بتا سکتا |
    نہیں جانتا | پتہ نہیں | کہنا مشکل | ممکن نہیں | ناممکن | واضح نہیں | نہیں گن سکتا | منحصر; not sure:
    یقین نہیں | پکا نہیں; no image provided: کوئی تصویر نہیں | تصویر نہیں | تصویر موجود نہیں | تصویر
    دستیاب نہیں | کوئی تصویر _ نہیں; error:: خرابی | غلطی; partly: جزوی طور پر | جزوی; true: سچ; false:
    غلط | جھوٹ; is not correct: درست نہیں | صحیح نہیں | سچ نہیں | ٹھیک نہیں | درست نہیں ہے | صحیح نہیں ہے
    | سچ نہیں ہے; there are no: کوئی _ نہیں ہے | کوئی _ نہیں ہیں | کوئی بھی _ نہیں | کوئی نہیں | ایک بھی
    _ نہیں | کوئی _ نہیں; or: یا; and: اور; is not but: نہیں بلکہ; but: بلکہ | لیکن; neither: نہ; so:
    لہٰذا | لہذا | اس لیے; in total: کل | مجموعی طور پر; because: کیونکہ; answer: جواب; final: حتمی;
    option: آپشن | انتخاب; maybe: شاید; about: تقریباً | تقریبا | لگ بھگ; at least: کم از کم | زیادہ سے
    زیادہ; between: کے درمیان; to: سے; confidence: اعتماد; left: بائیں | بائیں طرف; right: دائیں | دائیں
    طرف; front: سامنے; behind: پیچھے; above: اوپر; below: نیچے; is correct: درست | صحیح | ٹھیک | درست ہے
    | صحیح ہے; or more: سے زیادہ | سے کم; conclusion: نتیجہ
    """,
    units="""
    صفر ایک دو تین چار پانچ چھ/چھہ سات آٹھ نو دس گیارہ بارہ تیرہ چودہ پندرہ سولہ سترہ اٹھارہ انیس
    """,
    others="""
    20 بیس 21 اکیس 25 پچیس 30 تیس 40 چالیس 50 پچاس 60 ساٹھ 70 ستر 80 اسی 90 نوے 100 سو 1000 ہزار 1.5 ڈیڑھ
    2.5 ڈھائی
    """,
)
CHINESE = Language(
    phrases="""
    yes: 是的 | 没错 | 是啊 | 当然是 | 当然 | 对啊 | 是肯定的 | 肯定的; no: 否 | 不是的 | 错了 | 并非如此
    | 当然不是 | 不， | 是否定的 | 否定的; no doubt: 毫无疑问 | 无疑; please upload: 请上传 | 请提供 |
    请发送 | 请把图片 | 请分享 | 需要更多信息; cannot determine: 无法 | 不能确定 | 不知道 | 难以判断 |
    看不清 | 不清楚 | 很难说 | 取决于 | 不能判断 | 难以确定 | 不可能确定 | 信息不足 | 不好说 | 看不到;
    not sure: 不确定 | 不太确定 | 没有把握 | 不敢肯定; no image provided: 没有图片 | 没有看到图片 |
    看不到图片 | 没有提供图片 | 未提供图片 | 没有图像 | 没有收到图片 | 图片未 | 无图片; error:: 请求超时
    | 网络错误 | 服务器错误 | 请求过多 | 请稍后再试 | 错误代码 | 错误：; partly: 部分 | 不全 | 半对半错 |
    基本 | 不太 | 不完全; true: 真的 | 属实 | 为真 | 真 | 相符 | 一致 | 成立 | 符合; is false: 错误 |
    不正确 | 为假 | 假的 | 不属实 | 不符 | 不一致 | 不成立 | 不准确 | 是错误的 | 错误的 | 不正确的 |
    是不正确的; are wrong: 都不对 | 都不是 | 都错 | 都不正确 | 均不对 | 均不正确 | 均不是 | 不对 |
    都可以排除 | 可以排除 | 被排除 | 均可排除; not: 并非 | 不选 | 不是 | 并不是; instead of: 而不是 |
    而非; but: 而是 | 但是 | 不过 | 但; whether: 是否 | 是或否 | 对或错 | 是还是否; there are no: 没有 |
    也没有; neither: 既不是; nor: 也不是; or: 或者 | 或是 | 还是 | 或; and: 和 | 与 | 及 | 以及; so: 因此
    | 所以 | 故 | 综上 | 于是; in total: 总共有 | 总共 | 一共有 | 一共 | 共有 | 共 | 总数 | 合计 | 共计;
    of which: 其中; leaving: 只剩下 | 只剩 | 剩下; ruling out: 排除 | 排除了; because: 因为 | 由于;
    answer: 答案 | 回答; final: 最终 | 最后; option: 选项; choose: 选 | 故选 | 选择 | 应选 | 我选; is: 是
    | 为 | 应为 | 应该是 | 应是; maybe: 可能 | 大概是 | 也许; about: 大约 | 约 | 左右 | 大概 | 差不多;
    more than: 超过 | 多于 | 大于 | 少于 | 小于 | 不到; at least: 至少 | 至多 | 最多 | 不少于 | 不超过 |
    最少; or more: 以上 | 以下 | 多个; between: 介于; to: 到 | 至; confidence: 置信度 | 信心; left: 左边
    | 左侧 | 左; right: 右边 | 右侧 | 右; front: 前面 | 前方; behind: 后面 | 后方; above: 上面 | 上方;
    below: 下面 | 下方; is correct: 正确 | 正确的 | 是正确的 | 是对的 | 对的; conclusion: 结论
    """,
)
JAPANESE = Language(
    phrases="""
    yes: そうです | その通りです | その通り | ええ; no: 違います | そうではありません | いえ |
    ちがいます; please upload: アップロード | 画像を送 | 画像を提供 | お送りください | ください; cannot
    determine: わかりません | 分かりません | 判断できません | 数えられません | 選べません | 見えません |
    答えられません | 不明 | 難しい | できません | 場合による | 特定できません | とも言えません |
    言えません | は言えません; not sure: 確信がありません | 自信がありません | 確かではありません; no
    image provided: 画像が見えません | 画像がありません | 画像がない | 画像が提供されて | 画像が見えない;
    error:: エラー | タイムアウト; partly: 部分的に | 一部 | 半分 | 完全には; true: 本当です | 真です |
    真; is false: 誤りです | 間違いです | 正しくありません | 正しくない | 間違っています | 偽 | 偽です |
    誤り | 一致しません; whether: かどうか; maybe: かもしれません | かもしれない | おそらく; is not ,:
    ではなく | ではありません | じゃなく | ではない; are wrong: は除外 | を除外; there are no:
    はありません | はいません | がありません | はない | もありません | がいません; or: か | または |
    もしくは; and: と | や; so: したがって | よって | だから | なので; in total: 合計 | 全部で |
    合わせて; leaving: 残るのは | 残りは; ruling out: 消去法により; answer: 答え | 正解 | 回答 |
    最終的な答え; option: 選択肢; choose: 選びます; is: は | が; about: 約 | およそ | だいたい | くらい;
    or more: 以上 | 以下 | 未満 | より多い | を超え | より少ない; at least: 少なくとも | 最大 | 最低; to:
    から; confidence: 信頼度 | 確信度 | 自信; left: 左側 | 左; right: 右側 | 右; front: 前 | 手前;
    behind: 後ろ | 奥; above: 上; below: 下; is correct: 正しい | 正しいです | 正解です; conclusion:
    結論; is not: でもありません; nor: でも; m: メートル; cm: センチメートル | センチ
    """,
    others="""
    1 ひとつ/一つ 2 ふたつ/二つ 3 みっつ/三つ 4 よっつ/四つ 5 いつつ/五つ 6 むっつ/六つ 7 ななつ/七つ 8
    やっつ/八つ 9 ここのつ/九つ 10 とお
    """,
)
LATIN = {
    "Spanish": SPANISH,
    "Portuguese": PORTUGUESE,
    "French": FRENCH,
    "German": GERMAN,
    "Indonesian": INDONESIAN,
    "Italian": ITALIAN,
}


_ENGLISH = """
    incorrect exact about above all also am an and answer any are as at be because best both but by can can't
    cannot chair choice choose closer closest correct do does don't final for four from front has have
    he how i i'd i'm image in into is it it's its just left long man more most my near nearer nearest no
    not object of on one only option or other out pick please plus point red right see she six so some
    sorry sure ten than that the their them then there they think this three to total two up was we what
    which will with would yes you your zero
"""
ENGLISH = frozenset(_ENGLISH.split())  # words by which no other language is recognized
